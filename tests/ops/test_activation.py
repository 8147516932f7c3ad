"""Scores in the metric of the inputs, against the published formula in numpy."""

import numpy as np
import pytest
import torch

from rcc.ops.activation import activation_score


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed)).double()


def test_the_score_is_the_published_product_of_magnitude_and_input_norm():
    weight, inputs = matrix(6, 5).float(), matrix(40, 5, 1)
    expected = np.abs(weight.numpy()) * np.linalg.norm(inputs.numpy(), axis=0) / np.sqrt(40)
    score = activation_score(weight, inputs.square().mean(0))
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_score_is_zero_only_where_the_weight_is(dtype):
    weight = torch.tensor([[0.0, 1.0, 1e-7], [2.0, -0.0, -3.0]]).to(dtype)
    score = activation_score(weight, torch.tensor([0.0, 0.0, 4.0]), torch.tensor([1e-44, 0.0]))
    assert torch.equal(score == 0, weight == 0)
    assert score.dtype == torch.float32


def test_among_inputs_that_never_fired_magnitude_decides():
    score = activation_score(torch.tensor([[3.0, 1.0, 2.0, 1e-3]]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert score[0].argsort().tolist() == [1, 2, 0, 3]
    silent = activation_score(torch.tensor([[3.0, 1.0]]), torch.zeros(2))
    assert silent.tolist() == [[3.0, 1.0]]
