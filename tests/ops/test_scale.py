"""The parametrisation of scales and the importance of channels, by hand and against autograd."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.ops.scale import (
    activation_sensitivity,
    channel_norms,
    gate_sensitivity,
    normalised,
    scale_channels,
    to_raw,
    to_scale,
)


def test_a_raw_parameter_of_zero_is_the_identity_exactly():
    assert to_scale(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert to_raw(torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_the_clamp_of_three_bounds_the_scale():
    low, high = to_scale(torch.tensor([-3.0, 3.0], dtype=torch.float64)).tolist()
    assert (low, high) == (pytest.approx(0.0948517463551336), pytest.approx(1.9051482536448667))


@given(st.floats(0.01, 1.99))
def test_the_inverse_gives_the_scale_back(scale):
    value = torch.tensor([scale], dtype=torch.float64)
    assert float(to_scale(to_raw(value))) == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("scale", [0.0, 2.0, -1.0, float("nan")])
def test_a_scale_without_a_raw_parameter_is_refused(scale):
    with pytest.raises(ValueError, match="must lie in"):
        to_raw(torch.tensor([scale]))


def test_channels_of_any_weight_are_scaled_along_the_first_dimension():
    weight = torch.ones(2, 3, 2, 2)
    assert scale_channels(weight, torch.tensor([2.0, 0.5]))[:, 1, 1, 0].tolist() == [2.0, 0.5]


def test_channel_norms_by_hand():
    assert channel_norms(torch.tensor([[3.0, 4.0], [0.0, -2.0]])).tolist() == [5.0, 2.0]


def test_the_gate_sensitivity_is_the_derivative_by_a_factor_on_the_channel():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator, requires_grad=True)
    gate = torch.ones(4, requires_grad=True)
    inputs = torch.randn(5, 3, generator=generator)
    (inputs @ (gate[:, None] * weight).T).tanh().sum().backward()
    torch.testing.assert_close(gate_sensitivity(weight, weight.grad), gate.grad)


def test_the_activation_sensitivity_is_the_mean_magnitude_of_the_product():
    activations = torch.tensor([[[1.0, -2.0]], [[3.0, 0.5]]])
    gradient = torch.tensor([[[2.0, 1.0]], [[-1.0, 4.0]]])
    assert activation_sensitivity(activations, gradient).tolist() == [2.5, 2.0]


def test_importance_is_taken_over_its_largest_and_zero_stays_zero():
    assert normalised(torch.tensor([1.0, 4.0, 0.0])).tolist() == [0.25, 1.0, 0.0]
    assert normalised(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_an_importance_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        normalised(torch.tensor([1.0, bad]))
