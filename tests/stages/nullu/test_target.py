"""What pairs are fitted to: damped until definite, outputs free of given directions, notes on the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toys.layer_rows import context_for, data, rows, svd_llm, weight_of
from toys.models import SmallModel

from rcc.calibration.layer_fits import Inputs, LayerFit
from rcc.layers.form import Form
from rcc.ops.quadratic import Quadratic
from rcc.stages.nullu.projector import NulluProjector
from rcc.stages.nullu.target import Target, note_on_samples, to_outputs, to_weight, working_dtype


def matrix(m: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed)).double()


def site_of(x: torch.Tensor, y: torch.Tensor, name: str = "head") -> LayerFit:
    """The fit of rows x (n, in) and y (n, out): 'head' of the small net has no bias, 'hidden' has one."""
    deviating, missing = x - x.mean(0), y - y.mean(0)
    inputs = Inputs(len(x), len(x), x.mean(0), deviating.T @ deviating / len(x))
    unit = SmallModel().unit(name)
    return LayerFit(unit, inputs, y.mean(0), missing.T @ deviating / len(x), missing.square().mean(0), ())


def test_damping_rises_tenfold_until_the_moment_is_definite() -> None:
    basis, _ = torch.linalg.qr(matrix(16, 16))
    values = torch.linspace(2, 0, 16).double()
    values[-1] = -0.004  # as rounding may leave it, if not of this size
    moment = (basis * values) @ basis.T
    near = matrix(10, 16, 1)
    inputs = Inputs(99, 99, torch.zeros(16).double(), moment)
    unit, mean = SmallModel().unit("head"), torch.zeros(10).double()
    fit = LayerFit(unit, inputs, mean, near @ moment, torch.ones(10).double(), ())
    found = to_outputs(fit, near)
    added = 0.01 * float(moment.diagonal().mean())
    torch.testing.assert_close(found.moment, moment + added * torch.eye(16).double())
    torch.testing.assert_close(found.solution, near)


def test_inputs_that_never_vary_tell_nothing_to_a_layer_with_a_bias() -> None:
    x = matrix(1, 12).expand(50, 12)
    y = matrix(1, 16, 1).expand(50, 16)
    assert to_outputs(site_of(x, y, "hidden"), matrix(16, 12, 2)) is None
    varying = x + 0.1 * matrix(50, 12, 3)
    assert to_outputs(site_of(varying, y, "hidden"), matrix(16, 12, 2)) is not None


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_outputs_free_of_directions_are_those_of_projected_rows(noise: float) -> None:
    x, near = matrix(60, 16), matrix(10, 16, 1)
    y = x @ matrix(10, 16, 2).T + noise * matrix(60, 10, 3)
    directions = torch.linalg.qr(matrix(10, 2, 4)).Q.T
    projection = torch.eye(10).double() - directions.T @ directions
    found = to_outputs(site_of(x, y), projection @ near, directions)
    expected = to_outputs(site_of(x, y @ projection), projection @ near)
    torch.testing.assert_close(found.moment, expected.moment)
    torch.testing.assert_close(found.cross, expected.cross)
    if noise:
        assert float(found.energy.sum()) > float(expected.energy.sum())
    else:  # but for the damping, the inputs explain the outputs
        assert float(found.energy.sum()) == pytest.approx(float(expected.energy.sum()), rel=2e-3)
    assert float(found.energy.sum()) <= float(to_outputs(site_of(x, y), near).energy.sum())


@pytest.mark.parametrize("ratio", [0.5, 0.7])
def test_a_projected_layer_is_fitted_to_projected_outputs_and_stays_orthogonal(ratio: float, tmp_path) -> None:
    difference = matrix(30, 16, 5).float()
    save_file({"hidden.positive": difference, "hidden.negative": torch.zeros(30, 16)}, tmp_path / "pairs.safetensors")
    directions = torch.linalg.svd(difference.double(), full_matrices=False)[2][:2]
    projection = (torch.eye(16).double() - directions.T @ directions).numpy()
    model, context = SmallModel(), context_for(SmallModel())
    x, y = rows(model, "hidden", context.calibration)
    near = projection @ weight_of(model, "hidden")
    stage = NulluProjector(
        ratio, None, paired_features=tmp_path / "pairs.safetensors", paired_rank=2, include=["hidden"]
    )
    facts = stage.apply(model, context).touched["hidden"]
    expected, bias, _ = svd_llm(x, y @ projection, near, facts["rank"], bias=True)
    form = model.unit("hidden").read()
    np.testing.assert_allclose(weight_of(model, "hidden"), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(form.bias.detach().numpy(), bias, rtol=0, atol=2e-5)
    assert facts["projected_out"] == 2
    _, put_out = rows(model, "hidden", data(1))
    assert np.abs(put_out @ directions.numpy().T).max() < 1e-5


def test_a_weight_is_the_minimum_of_its_own_objective_and_errors_are_frobenius() -> None:
    weight, other = matrix(6, 4), matrix(6, 4, 1)
    of = to_weight(weight.float())
    assert of.moment.dtype == torch.float64
    torch.testing.assert_close(of.solution.float(), weight.float())
    expected = float((other - weight).square().sum() / weight.square().sum())
    assert of.relative_error(other) == pytest.approx(expected, rel=1e-5)


def test_wide_layers_are_computed_in_float32() -> None:
    assert [working_dtype(width) for width in (1024, 1025)] == [torch.float64, torch.float32]


@pytest.mark.parametrize(("rank", "samples", "said"), [(3, 3, "at least 4"), (3, 4, "for 12 dim"), (3, 12, "")])
def test_a_layer_with_a_bias_needs_a_row_more_than_its_rank(rank: int, samples: int, said: str) -> None:
    fit = site_of(matrix(samples, 12), matrix(samples, 16, 1), "hidden")
    note = note_on_samples(fit, rank)
    assert said in note
    assert bool(note) == bool(said)


def test_a_new_form_has_the_dtype_stored_and_the_bias_that_is_best_on_average() -> None:
    x, y = matrix(80, 12) + 3, matrix(80, 16, 1) - 2
    model = SmallModel()
    model.module.to(torch.bfloat16)
    unit = model.unit("hidden")
    form = Form(sparse=unit.read().sparse, bias=unit.read().bias)
    fit = site_of(x, y, "hidden")
    made = Target(unit, form, to_outputs(fit, form.dense().detach()), fit=fit).truncated(4, "balanced")
    assert made.left.dtype == made.right.dtype == made.bias.dtype == torch.bfloat16
    mean = (x @ made.dense().double().T).mean(0) + made.bias.double()
    torch.testing.assert_close(mean, y.mean(0), rtol=0, atol=0.05)


def test_the_sparse_part_of_a_joint_form_has_the_count_asked_for() -> None:
    weight = matrix(16, 12)
    unit = SmallModel().unit("hidden")
    target = Target(unit, Form(sparse=weight.float()), Quadratic.around(weight, torch.eye(12).double()))
    made = target.with_sparse(2, 40).truncated(2, "balanced")
    assert (int(made.sparse.count_nonzero()), made.rank, made.bias) == (40, 2, None)
