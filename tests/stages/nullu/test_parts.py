"""of=residual and of=joint: a pair beside an S that stays, or beside one of its own, and what must be smaller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys.layer_rows import context_for, rows, weight_of
from toys.models import SmallModel

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.grid import from_grid
from rcc.ops.quadratic import Quadratic
from rcc.ops.sparse_low_rank import sparse_plus_low_rank
from rcc.stages.base import StageContext, UnitPlan, bytes_of
from rcc.stages.nullu.projector import NulluProjector


@pytest.fixture
def context() -> StageContext:
    return context_for(SmallModel())


def pruned(share: float = 0.2) -> SmallModel:
    """The model with all but that share of the hidden layer's values gone, the smallest first."""
    model = SmallModel()
    form = model.unit("hidden").read()
    weight = form.sparse.clone()
    threshold = weight.abs().flatten().sort(descending=True).values[int(share * weight.numel())]
    model.unit("hidden").write(Form(sparse=weight * (weight.abs() > threshold), bias=form.bias))
    return model


def moments(x: np.ndarray, y: np.ndarray, near: np.ndarray) -> Quadratic:
    """The damped objective of the rows, with the best bias."""
    energy = ((y - y.mean(0)) ** 2).mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    of_rows = Quadratic(*(torch.from_numpy(part) for part in (x.T @ x / len(x), y.T @ x / len(x), energy)))
    return of_rows.damped(torch.from_numpy(near), 1e-3)


def test_the_residual_pair_is_the_truncation_of_what_the_kept_part_leaves_of_the_dense_outputs(context) -> None:
    model = pruned()
    kept = model.unit("hidden").read().sparse.clone()
    x, _ = rows(model, "hidden", context.calibration)
    _, y = rows(SmallModel(), "hidden", context.calibration)
    of = moments(x, y, kept.double().numpy())
    stage = NulluProjector(0.2, None, metric="calibration", of="residual", include=["hidden"])
    report = stage.apply(model, context)
    form = model.unit("hidden").read()
    assert torch.equal(form.sparse, kept)
    rank = form.rank
    assert rank == (int(0.8 * 192) - int(kept.count_nonzero())) // 28 == report.touched["hidden"]["rank"] == 4
    root = np.linalg.cholesky(of.moment.numpy())
    u, s, v = np.linalg.svd((of.solution - kept).numpy() @ root, full_matrices=False)
    expected = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(root)
    np.testing.assert_allclose((form.left @ form.right).detach().numpy(), expected, rtol=0, atol=2e-5)
    error = of.relative_error(torch.from_numpy(kept.double().numpy() + expected)) ** 0.5
    assert report.touched["hidden"]["relative_error"] == pytest.approx(error, rel=1e-3)


def test_a_residual_pair_mends_the_outputs_of_a_pruned_layer(context) -> None:
    model = pruned()
    _, wanted = rows(SmallModel(), "hidden", context.calibration)
    _, before = rows(model, "hidden", context.calibration)
    NulluProjector(0.2, None, metric="calibration", of="residual", include=["hidden"]).apply(model, context)
    _, after = rows(model, "hidden", context.calibration)
    assert ((wanted - after) ** 2).sum() < 0.3 * ((wanted - before) ** 2).sum()


def test_a_kept_part_stays_on_its_grid(context) -> None:
    model = SmallModel()
    step = torch.linspace(0.1, 0.3, 16)
    whole = torch.zeros(16, 12, dtype=torch.int8)
    whole[:, :2] = torch.arange(1, 33, dtype=torch.int8).reshape(16, 2)
    bias = model.unit("hidden").read().bias
    model.unit("hidden").write(Form(sparse=from_grid(whole, step), bias=bias, sparse_step=step))
    NulluProjector(0.2, None, metric="calibration", of="residual", include=["hidden"]).apply(model, context)
    form = model.unit("hidden").read()
    assert form.rank == 4
    assert torch.equal(form.sparse_step, step)
    assert torch.equal(form.sparse, from_grid(whole, step))
    assert form.left_step is form.right_step is None


def test_what_is_stored_beside_the_kept_part_must_stay_below_a_dense_layer(context) -> None:
    model = pruned(0.2)
    stage = NulluProjector(0.2, None, metric="calibration", of="residual", include=["hidden"])
    facts = stage.apply(model, context).touched["hidden"]
    unit = model.unit("hidden")
    assert facts["bytes_before"] < facts["bytes_after"] == bytes_of(unit, 4) < 4 * unit.numel
    model = pruned(0.27)
    stage = NulluProjector(0.0, None, metric="calibration", of="residual", include=["hidden"])
    report = stage.apply(model, replace(context, storage=torch.float16))
    reasons = {entry.name: entry.reason for entry in report.skipped}
    # 5 · 28 values of the pair and 51 of S, of two bytes, and a bit for each place of S
    assert f"{2 * (140 + 51) + 24} bytes where 384 are stored" in reasons["hidden"]
    assert model.unit("hidden").read().left is None


def test_a_kept_part_that_is_over_the_share_alone_is_left_with_both_numbers(context) -> None:
    model = SmallModel()
    stage = NulluProjector(0.5, None, metric="calibration", of="residual")
    report = stage.apply(model, context)
    reasons = {entry.name: entry.reason for entry in report.skipped}
    assert report.touched == {}
    assert reasons["hidden"] == "S holds 192 values, and 0.5 of 192 leaves no rank beside them"


def test_a_residual_in_the_plain_metric_is_that_of_the_dense_weight(context) -> None:
    model = pruned()
    kept = weight_of(model, "hidden")
    stage = NulluProjector(0.2, None, metric="plain", of="residual", include=["hidden"])
    stage.apply(model, context)
    rest = weight_of(SmallModel(), "hidden") - kept
    u, s, v = np.linalg.svd(rest, full_matrices=False)
    form = model.unit("hidden").read()
    np.testing.assert_allclose((form.left @ form.right).detach().numpy(), (u[:, :4] * s[:4]) @ v[:4], atol=1e-5)
    with pytest.raises(UserError, match=r"of=residual .* dense weights"):
        stage.apply(pruned(), StageContext())


@pytest.mark.parametrize("refit", [True, False])
def test_a_second_residual_round_at_a_lower_share_cuts_the_rank_beside_the_same_part(refit, context) -> None:
    model = pruned()
    kept = model.unit("hidden").read().sparse.clone()
    options = {"metric": "calibration", "of": "residual", "include": ["hidden"], "refit": refit}
    NulluProjector(0.2, None, **options).apply(model, context)
    NulluProjector(0.4, None, **options).apply(model, context)
    form = model.unit("hidden").read()
    assert form.rank == (int(0.6 * 192) - int(kept.count_nonzero())) // 28 == 2
    assert torch.equal(form.sparse, kept)
    report = NulluProjector(0.4, None, **options).apply(model, context)
    assert list(report.touched) == (["hidden"] if refit else [])


def test_the_joint_form_has_exact_counts_and_is_that_of_the_alternation(context) -> None:
    model = SmallModel()
    x, y = rows(model, "hidden", context.calibration)
    of = moments(x, y, weight_of(model, "hidden"))
    stage = NulluProjector(0.4, None, metric="calibration", of="joint", sparse_share=0.5, include=["hidden"])
    report = stage.apply(model, context)
    form = model.unit("hidden").read()
    keep = int(0.6 * 192 / 2)
    rank = (int(0.6 * 192) - keep) // 28
    assert (int(form.sparse.count_nonzero()), form.rank) == (keep, rank) == (57, 2)
    sparse, left, right = sparse_plus_low_rank(of, rank, keep)
    expected = (sparse + left @ right).numpy()
    np.testing.assert_allclose(weight_of(model, "hidden"), expected, rtol=0, atol=1e-3)
    error = of.relative_error(torch.from_numpy(expected)) ** 0.5
    assert report.touched["hidden"]["relative_error"] == pytest.approx(error, rel=1e-2)
    assert report.touched["hidden"]["bytes_after"] == bytes_of(model.unit("hidden"), 4)


def test_a_joint_form_needs_no_data_in_the_plain_metric() -> None:
    model, of = SmallModel(), {}
    for name in ("hidden", "head"):
        weight = torch.from_numpy(weight_of(model, name))
        of[name] = Quadratic.around(weight, torch.eye(weight.shape[1]).double())
    NulluProjector(0.4, None, of="joint", include=["hidden", "head"]).apply(model, StageContext())
    for name, problem in of.items():
        form = model.unit(name).read()
        expected = sparse_plus_low_rank(problem, form.rank, int(form.sparse.count_nonzero()))
        assert problem.relative_error(torch.from_numpy(weight_of(model, name))) == pytest.approx(
            problem.relative_error(expected[0] + expected[1] @ expected[2]), rel=1e-4
        )


@pytest.mark.parametrize("of", ["residual", "joint"])
def test_the_plan_predicts_the_bytes(of, context) -> None:
    model = pruned()
    stage = NulluProjector(0.3, None, metric="calibration", of=of, include=["hidden"])
    chosen, _ = stage.choose(model)
    (plan,) = stage.plan([UnitPlan.of(unit) for unit in chosen], 4)
    stage.apply(model, context)
    if of == "residual":
        assert plan.nbytes(4) == bytes_of(model.unit("hidden"), 4)
        assert plan.note == "rank 3 of 12"
    else:  # the pruned layer is the smaller one
        assert "would not be smaller" in plan.note
        assert model.unit("hidden").read().left is None
