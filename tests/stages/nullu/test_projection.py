"""Projecting a form out of a subspace: the same weight whichever way holds it, and the smaller way is taken."""

import pytest
import torch

from rcc.layers.form import Form
from rcc.ops.subspace import project_out, row_basis
from rcc.stages.nullu.projection import matrix_bytes, projected


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


DIRECTIONS = row_basis(randn(2, 20, seed=9))
SPARSE = torch.where(torch.rand(20, 30, generator=torch.Generator().manual_seed(1)) < 0.05, randn(20, 30), 0.0)
FORMS = {
    "dense": Form(sparse=randn(20, 30), bias=randn(20)),
    "low rank": Form(left=randn(20, 3), right=randn(3, 30), bias=randn(20)),
    "both": Form(randn(20, 30), randn(20, 3), randn(3, 30), bias=randn(20)),
    "pruned": Form(sparse=SPARSE, bias=randn(20)),
    "pruned and low rank": Form(SPARSE, randn(20, 1), randn(1, 30)),
    "scaled": Form(sparse=randn(20, 30), scale=torch.linspace(0.5, 1.5, 20)),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_result_is_the_projected_weight_and_bias(name):
    form = FORMS[name]
    found = projected(form, DIRECTIONS, True, 4)
    torch.testing.assert_close(found.dense(), project_out(form.dense(), DIRECTIONS), rtol=0, atol=1e-5)
    if form.bias is not None:
        assert float((DIRECTIONS.float() @ found.bias).abs().max()) < 1e-6


def test_a_dense_weight_is_projected_in_place_and_gains_no_pair():
    assert projected(FORMS["dense"], DIRECTIONS, True, 4).left is None


def test_a_pruned_weight_keeps_its_zeros_and_gains_a_pair():
    found = projected(FORMS["pruned"], DIRECTIONS, True, 4)
    assert found.sparse is SPARSE
    assert found.rank == 2
    assert projected(FORMS["pruned and low rank"], DIRECTIONS, True, 4).rank == 3


def test_a_layer_that_can_hold_no_pair_is_projected_in_place():
    assert projected(FORMS["pruned"], DIRECTIONS, False, 4).left is None


def test_bytes_of_a_form_count_the_smaller_encoding_of_each_matrix():
    form = Form(torch.eye(8), torch.ones(8, 1), torch.ones(1, 8))
    assert matrix_bytes(form, 4) == (8 + 8 * 4) + 8 * 4 + 8 * 4
