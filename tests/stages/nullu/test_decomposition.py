"""The specification's methods on one layer: decomposition, rank, null space, reconstruction, overlap."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.stages.nullu.projector import NulluProjector


def weight(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_diagonal_weight_is_cut_where_its_energy_says():
    projector = NulluProjector(rank_reduction_ratio=None, energy_threshold=0.9)
    facts = projector.decompose_layer("layer", torch.diag(torch.tensor([90.0, 9.0, 1.0]).double().sqrt()))
    assert (facts["rank"], facts["bound"]) == (1, "energy")
    assert facts["energy_preserved"] == pytest.approx(0.9)
    assert facts["relative_error"] == pytest.approx(math.sqrt(0.1))
    assert facts["compression_ratio"] == pytest.approx(1 - 6 / 9)
    assert (projector.original_ranks, projector.selected_ranks) == ({"layer": 3}, {"layer": 1})


def test_the_share_of_parameters_binds_when_it_is_the_smaller():
    projector = NulluProjector(rank_reduction_ratio=0.5, energy_threshold=1.0)
    facts = projector.decompose_layer("layer", weight(40, 60))
    assert (facts["rank"], facts["bound"]) == (12, "share")
    assert projector.decomposed_layers["layer"].right.shape == (12, 60)


def test_the_reconstruction_is_numpys_truncated_svd_in_the_shape_of_a_convolution():
    projector = NulluProjector(rank_reduction_ratio=None, energy_threshold=0.8)
    kernel = weight(6, 4, 3, 3)
    rank = projector.decompose_layer("conv", kernel)["rank"]
    u, s, v = np.linalg.svd(kernel.double().numpy().reshape(6, 36), full_matrices=False)
    expected = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(6, 4, 3, 3)
    assert 1 < rank < 6
    np.testing.assert_allclose(projector.reconstruct_weight("conv").numpy(), expected, atol=1e-12)


def test_the_null_space_is_that_of_the_truncated_weight():
    projector = NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None)
    projector.decompose_layer("layer", weight(12, 8))
    found = projector.project_to_null_space("layer")
    expected = scipy.linalg.null_space(projector.reconstruct_weight("layer").numpy(), rcond=1e-9)
    assert found.shape == (8 - projector.selected_ranks["layer"], 8) == expected.T.shape
    np.testing.assert_allclose((found.T @ found).numpy(), expected @ expected.T, atol=1e-9)
    assert projector.null_spaces["layer"] is found


def test_a_low_rank_form_is_decomposed_like_its_dense_weight():
    left, right = weight(9, 3, seed=1), weight(3, 7, seed=2)
    form = Form(left=left, right=right, scale=torch.linspace(0.5, 1.5, 9))
    projector = NulluProjector()
    dense = projector.compute_svd_decomposition(form.dense())
    torch.testing.assert_close(projector.compute_svd_decomposition(form).values, dense.values[:3], rtol=1e-5, atol=0)


def test_the_overlap_of_null_spaces_is_scipys_mean_squared_cosine_and_normalised_distance():
    projector = NulluProjector(rank_reduction_ratio=0.6, energy_threshold=None)
    for name, seed in (("a", 1), ("b", 2)):
        projector.decompose_layer(name, weight(10, 10, seed=seed))
    found = projector.analyze_subspace_overlap("a", "b")
    bases = [scipy.linalg.null_space(projector.reconstruct_weight(name).numpy(), rcond=1e-9) for name in "ab"]
    angles = scipy.linalg.subspace_angles(*bases)
    width = bases[0].shape[1]
    assert found.overlap == pytest.approx(float(np.mean(np.cos(angles) ** 2)))
    largest = math.pi / 2 * math.sqrt(min(width, 10 - width))
    assert found.distance == pytest.approx(float(np.linalg.norm(angles)) / largest, abs=1e-6)
    assert found.baseline == width / 10


def test_layers_of_different_width_and_unknown_layers_are_refused_by_name():
    projector = NulluProjector()
    projector.decompose_layer("first", weight(6, 8))
    projector.decompose_layer("second", weight(6, 9))
    with pytest.raises(UserError, match="8 and 9 inputs"):
        projector.analyze_subspace_overlap("first", "second")
    with pytest.raises(UserError, match="Did you mean 'first'"):
        projector.project_to_null_space("fist")


def test_a_rank_can_be_asked_for_by_energy_alone():
    projector = NulluProjector(rank_reduction_ratio=0.5, energy_threshold=0.95)
    values = torch.tensor([90.0, 9.0, 1.0]).sqrt()
    assert projector.select_optimal_rank(values).rank == 2
    assert projector.select_optimal_rank(values, 0.5).rank == 1
    assert projector.select_optimal_rank(values, 1.0, shape=(4, 3)).bound == "share"
