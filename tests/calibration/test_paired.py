"""Paired features: the directions by numpy, and every way the file can be wrong, by name."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rcc.calibration.paired import PairedFeatures
from rcc.errors import UserError
from rcc.layers.units import find_units

MODULE = nn.ModuleDict({"first": nn.Linear(5, 8), "second": nn.Linear(8, 3)})
UNITS = find_units(MODULE)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write(path, tensors):
    save_file(tensors, path)
    return path


def test_directions_are_numpys_right_singular_vectors_of_the_difference(tmp_path):
    positive, negative = randn(20, 8), randn(20, 8, seed=1)
    path = write(tmp_path / "pairs.safetensors", {"first.positive": positive, "first.negative": negative})
    features = PairedFeatures(path, UNITS, 3)
    assert features.names == {"first"}
    found = features.directions(UNITS[0])
    expected = np.linalg.svd((positive.double() - negative.double()).numpy())[2][:3]
    assert found.shape == (3, 8)
    np.testing.assert_allclose(np.abs((found.numpy() * expected).sum(1)), 1, atol=1e-10)


def test_features_of_half_precision_are_read_too(tmp_path):
    pair = {"first.positive": randn(20, 8).half(), "first.negative": randn(20, 8, seed=1).half()}
    assert PairedFeatures(write(tmp_path / "p.safetensors", pair), UNITS, 1).directions(UNITS[0]).dtype == torch.float64


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({}, "the file is empty"),
        ({"first.positive": randn(4, 8)}, "tensor 'first.negative' is missing"),
        ({"first.other": randn(4, 8)}, "'first.other' ends in neither"),
        ({"frist.positive": randn(4, 8), "frist.negative": randn(4, 8)}, "no unit 'frist'. Did you mean 'first'"),
        ({"first.positive": randn(4, 5), "first.negative": randn(4, 8)}, r"'first.positive' has shape \(4, 5\)"),
        ({"first.positive": randn(4, 8), "first.negative": randn(3, 8)}, "4 positive and 3 negative rows"),
        ({"first.positive": randn(1, 8), "first.negative": randn(1, 8)}, "2 directions cannot come from 1 pairs"),
    ],
)
def test_what_is_missing_misshaped_or_unknown_is_named(tmp_path, tensors, problem):
    with pytest.raises(UserError, match=problem):
        PairedFeatures(write(tmp_path / "pairs.safetensors", tensors), UNITS, 2)


def test_all_problems_of_a_file_are_reported_at_once(tmp_path):
    tensors = {"first.positive": randn(4, 8), "third.positive": randn(4, 8), "second.side": randn(1)}
    with pytest.raises(UserError) as caught:
        PairedFeatures(write(tmp_path / "pairs.safetensors", tensors), UNITS, 1)
    assert len(caught.value.problems) == 4


def test_features_that_do_not_differ_enough_or_are_not_finite_are_refused(tmp_path):
    same = randn(10, 8)
    path = write(tmp_path / "same.safetensors", {"first.positive": same, "first.negative": same.clone()})
    with pytest.raises(UserError, match="differ in fewer than 1 directions"):
        PairedFeatures(path, UNITS, 1).directions(UNITS[0])
    shift = same + 2.0  # every pair differs by the same vector
    path = write(tmp_path / "shift.safetensors", {"first.positive": shift.round(), "first.negative": shift.round() - 1})
    assert PairedFeatures(path, UNITS, 1).directions(UNITS[0]).shape == (1, 8)
    with pytest.raises(UserError, match="differ in fewer than 2 directions"):
        PairedFeatures(path, UNITS, 2).directions(UNITS[0])
    path = write(tmp_path / "nan.safetensors", {"first.positive": same * float("nan"), "first.negative": same})
    with pytest.raises(UserError, match=r"'first': .*NaN"):
        PairedFeatures(path, UNITS, 1).directions(UNITS[0])


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "pairs.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no readable safetensors"):
        PairedFeatures(tmp_path / "pairs.safetensors", UNITS, 1)
