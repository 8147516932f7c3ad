"""Repair of a whole model against numpy on the very rows: lstsq of each row, errors as measured, and the notes."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.models import SmallModel, batches

from rcc.calibration.layer_fits import layer_fits
from rcc.calibration.targets import dense_outputs
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.grid import from_grid, to_grid
from rcc.layers.input_rows import input_rows
from rcc.layers.units import find_units
from rcc.stages.alpha import repair as module
from rcc.stages.alpha.editor import AlphaEditor
from rcc.stages.base import StageContext, StageReport, UnitPlan
from rcc.stages.nullu.projector import NulluProjector

BATCHES = batches(8)
NAMES = ("conv", "hidden", "head")


@pytest.fixture
def dense() -> SmallModel:
    return SmallModel()


@pytest.fixture
def model(dense: SmallModel) -> SmallModel:
    """`dense` with seven tenths of every layer's values gone."""
    found = copy.deepcopy(dense)
    for name in NAMES:
        form = found.unit(name).read()
        assert form.sparse is not None
        found.unit(name).write(replace(form, sparse=pruned(form.sparse, 0.7)))
    return found


def pruned(matrix: Tensor, share: float) -> Tensor:
    threshold = matrix.abs().flatten().kthvalue(int(share * matrix.numel())).values
    return torch.where(matrix.abs() > threshold, matrix, 0.0)


def context(dense: SmallModel, given: list[dict[str, Tensor]] = BATCHES, **options: Any) -> StageContext:
    return StageContext(seed=5, calibration=given, dense=lambda: nullcontext(dense), **options)


def repaired(model: SmallModel, dense: SmallModel, way: str = "least_squares", **options: Any) -> StageReport:
    return AlphaEditor(repair=way, num_epochs=0, **options).apply(model, context(dense))


def energy(way: str, share: float) -> dict[str, float]:
    """The option of the null space, where there is one."""
    return {"null_space_energy": share} if way == "null_space" else {}


def rows_at(model: SmallModel, dense: SmallModel, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs that `name` gets in `model`, and what `dense` puts out there, as rows of float64."""
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    hooks = [
        model.module.get_submodule(name).register_forward_pre_hook(lambda part, args: given.append(args[0])),
        dense.module.get_submodule(name).register_forward_hook(lambda part, args, out: wanted.append(out)),
    ]
    for one in (model, dense):
        one.module.eval()
        with torch.no_grad():
            for batch in BATCHES:
                one.outputs(batch)
    for hook in hooks:
        hook.remove()
    unit = model.unit(name)
    x = torch.cat([part[0] for one in given for part in input_rows(unit.module, one)])
    y = torch.cat([one.movedim(1, -1).reshape(-1, unit.shape[0]) for one in wanted])
    return x.double().numpy(), y.double().numpy()


def answers(model: SmallModel, name: str, x: np.ndarray) -> np.ndarray:
    form = model.unit(name).read()
    bias = 0.0 if form.bias is None else form.bias.detach().double().numpy()
    return x @ form.dense().detach().double().numpy().T + bias


def bias(model: SmallModel) -> Tensor:
    """A copy of the bias of `hidden`."""
    found = model.unit("hidden").read().bias
    assert found is not None
    return found.detach().clone()


def relative(wanted: np.ndarray, found: np.ndarray, has_bias: bool) -> float:
    about = wanted.mean(0) if has_bias else 0.0
    return float(((wanted - found) ** 2).sum() / ((wanted - about) ** 2).sum())


def fitted_row(x: np.ndarray, y: np.ndarray, bias: bool, near: np.ndarray, weight: float) -> tuple[np.ndarray, float]:
    """The values (and the bias) of least mean (y − x v − b)² + weight ‖v − near‖², by lstsq on the stacked rows."""
    count, width = x.shape
    design = np.concatenate([x, np.full((count, 1), float(bias))], axis=1) / np.sqrt(count)
    held = np.concatenate([np.eye(width), np.zeros((width, 1))], axis=1) * np.sqrt(weight)
    right = np.concatenate([y / np.sqrt(count), near * np.sqrt(weight)])
    solution = np.linalg.lstsq(np.concatenate([design, held]), right, rcond=None)[0]
    return solution[:-1], float(solution[-1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damping", [1e-9, 0.05])
def test_least_squares_is_numpys_fit_of_each_row_on_its_surviving_columns(
    model: SmallModel, dense: SmallModel, name: str, damping: float
) -> None:
    before = copy.deepcopy(model).unit(name).read().dense().double().numpy()
    repaired(model, dense, damping=damping)
    x, y = rows_at(model, dense, name)
    form = model.unit(name).read()
    has_bias = form.bias is not None
    centred = x - x.mean(0) if has_bias else x
    weight = damping * (centred**2).mean()
    for row in range(form.shape[0]):
        columns = np.flatnonzero(before[row])
        values, bias = fitted_row(x[:, columns], y[:, row], has_bias, before[row, columns], weight)
        np.testing.assert_allclose(form.dense()[row, columns].numpy(), values, rtol=1e-4, atol=1e-5)
        if form.bias is not None:
            assert float(form.bias[row]) == pytest.approx(bias, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scales_are_numpys_fit_of_one_factor_a_row(model: SmallModel, dense: SmallModel, name: str) -> None:
    before = copy.deepcopy(model).unit(name).read().dense().double().numpy()
    repaired(model, dense, "scales", damping=1e-9)
    x, y = rows_at(model, dense, name)
    form = model.unit(name).read()
    for row in range(form.shape[0]):
        scale, bias = fitted_row((x @ before[row])[:, None], y[:, row], form.bias is not None, np.ones(1), 0.0)
        np.testing.assert_allclose(form.dense()[row].numpy(), scale * before[row], rtol=1e-4, atol=1e-5)
        if form.bias is not None:
            assert float(form.bias[row]) == pytest.approx(bias, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("way", ["scales", "least_squares", "null_space"])
def test_zeros_of_s_and_of_both_factors_stay_positive_zeros(dense: SmallModel, way: str) -> None:
    model = copy.deepcopy(dense)
    NulluProjector(0.3, None, include=["hidden"]).apply(model, StageContext())
    pair = model.unit("hidden").read()
    assert pair.left is not None
    assert pair.right is not None
    model.unit("hidden").write(replace(pair, left=pruned(pair.left, 0.3), right=pruned(pair.right, 0.3)))
    conv = model.unit("conv").read()
    assert conv.sparse is not None
    model.unit("conv").write(replace(conv, sparse=pruned(conv.sparse, 0.5)))
    before = {name: dict(model.unit(name).read().matrices()) for name in NAMES}
    report = repaired(model, dense, way, **energy(way, 0.5))
    assert "hidden" not in report.facts["not_repaired"]
    for name in ("conv", "hidden"):
        after = dict(model.unit(name).read().matrices())
        assert after.keys() == before[name].keys()
        for part, matrix in after.items():
            gone = before[name][part] == 0
            assert not bool(matrix[gone].any())
            assert not bool(torch.signbit(matrix[gone]).any())
            assert matrix.dtype == torch.float32
    assert not all(torch.equal(matrix, before["hidden"][part]) for part, matrix in after.items())


@pytest.mark.parametrize("way", ["scales", "least_squares", "null_space"])
def test_errors_are_those_measured_on_the_rows_and_never_rise(model: SmallModel, dense: SmallModel, way: str) -> None:
    broken = copy.deepcopy(model)
    report = repaired(model, dense, way, **energy(way, 0.3))
    kept = report.facts["not_repaired"]
    for name in NAMES:
        facts = report.touched[name]
        x, y = rows_at(model, dense, name)
        has_bias = model.unit(name).read().bias is not None
        assert facts["error_before"] == pytest.approx(relative(y, answers(broken, name, x), has_bias), rel=1e-4)
        assert facts["error_after"] == pytest.approx(relative(y, answers(model, name, x), has_bias), rel=1e-4)
        assert facts["error_after"] <= facts["error_before"]
        assert (facts["error_after"] == facts["error_before"]) == (name in kept)
        assert ("kept as it was" in facts.get("note", "")) == (name in kept)
    assert (report.facts["repair"], report.facts["repaired"]) == (way, 3 - len(kept))
    assert way == "null_space" or kept == []
    assert len(kept) < 3
    for when in ("before", "after"):
        mean = np.mean([report.touched[name][f"error_{when}"] for name in NAMES])
        assert report.facts[f"mean_error_{when}"] == pytest.approx(mean)


def test_least_squares_leaves_less_error_than_scales_and_those_less_than_none(dense: SmallModel) -> None:
    model = copy.deepcopy(dense)
    form = model.unit("conv").read()
    assert form.sparse is not None
    model.unit("conv").write(replace(form, sparse=pruned(form.sparse, 0.7)))
    left = [
        repaired(copy.deepcopy(model), dense, way, include=["conv"]).touched["conv"]
        for way in ("scales", "least_squares")
    ]
    assert left[1]["error_after"] < left[0]["error_after"] < left[0]["error_before"] == left[1]["error_before"]


def test_a_model_that_is_the_dense_one_keeps_its_weights(dense: SmallModel) -> None:
    model = copy.deepcopy(dense)
    report = repaired(model, dense)
    for (name, value), expected in zip(
        model.module.state_dict().items(), dense.module.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name
    assert report.facts["repaired"] == 0
    assert "kept as it was: no least-squares fit lowers its error" in report.touched["head"]["note"]


def test_too_few_samples_are_noted_and_the_fit_still_lowers_the_error(model: SmallModel, dense: SmallModel) -> None:
    few = [{key: value[:5] for key, value in BATCHES[0].items()}]
    report = AlphaEditor(repair="least_squares", num_epochs=0).apply(model, context(dense, few))
    assert report.touched["hidden"]["note"].startswith("5 rows of calibration inputs for 12 dimensions")
    assert report.touched["hidden"]["error_after"] < report.touched["hidden"]["error_before"]
    assert "note" not in report.touched["conv"]


class Others:
    """An embedding, a grouped convolution, a layer that never runs, and one whose inputs are all zero."""

    default_roles = ("embedding", "conv", "linear")

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.module: nn.Module = nn.ModuleDict(
            {
                "table": nn.Embedding(5, 4),
                "grouped": nn.Conv1d(4, 4, 1, groups=2),
                "idle": nn.Linear(4, 2),
                "silent": nn.Linear(4, 2),
                "plain": nn.Linear(4, 3),
            }
        )

    def units(self) -> list[Any]:
        return find_units(self.module)

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        part: Any = self.module
        found = part["grouped"](part["table"](batch["ids"]).mT).mT
        return {"found": part["plain"](found), "silent": part["silent"](torch.zeros_like(found))}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.outputs(batch)["found"].square().mean()


def test_units_that_cannot_be_fitted_keep_their_values_and_say_why() -> None:
    model = Others()
    dense = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(0.5)
    before = copy.deepcopy(model.module.state_dict())
    given = [{"ids": torch.randint(5, (6, 7), generator=torch.Generator().manual_seed(1))}]
    stage = AlphaEditor(repair="least_squares", num_epochs=0)
    report = stage.apply(model, StageContext(calibration=given, dense=lambda: nullcontext(dense)))
    notes = {name: facts.get("note") for name, facts in report.touched.items()}
    assert notes == {
        "table": "not repaired: an embedding looks its rows up: it has no inputs to fit on",
        "grouped": None,
        "idle": "not repaired: no calibration batch reached it with an input other than zero",
        "silent": "not repaired: no calibration batch reached it with an input other than zero",
        "plain": None,
    }
    assert set(report.facts["not_repaired"]) == {"table", "idle", "silent"}
    changed = {name for name, value in model.module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"grouped.weight", "grouped.bias", "plain.weight", "plain.bias"}
    assert report.touched["grouped"]["error_after"] < report.touched["grouped"]["error_before"]


def test_a_grouped_convolution_has_no_null_space_and_has_its_bias_settled() -> None:
    model = Others()
    dense = copy.deepcopy(model)
    weight = model.module["grouped"].weight.detach().clone()
    with torch.no_grad():
        model.module["grouped"].bias.add_(1)
    given = [{"ids": torch.randint(5, (6, 7), generator=torch.Generator().manual_seed(1))}]
    stage = AlphaEditor(repair="null_space", num_epochs=0)
    report = stage.apply(model, StageContext(calibration=given, dense=lambda: nullcontext(dense)))
    assert "would need a null space of its own" in report.touched["grouped"]["note"]
    assert torch.equal(model.module["grouped"].weight, weight)
    torch.testing.assert_close(model.module["grouped"].bias, dense.module["grouped"].bias)


def test_a_fit_that_fails_keeps_the_values_and_names_the_reason(
    model: SmallModel, dense: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(form: Form, *args: Any) -> Form:
        if form.shape == (16, 12):
            raise torch.linalg.LinAlgError("the pivot is negative")
        return form

    monkeypatch.setattr(module, "refitted", failing)
    before = copy.deepcopy(model)
    report = repaired(model, dense)
    assert report.touched["hidden"]["note"] == "kept its values: the pivot is negative"
    assert "kept as it was" in report.touched["head"]["note"]  # it has no bias that could be settled
    assert torch.equal(model.unit("hidden").read().dense(), before.unit("hidden").read().dense())
    assert not torch.equal(bias(model), bias(before))  # which is settled all the same


def test_values_that_are_not_finite_are_not_taken(
    model: SmallModel, dense: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "refitted", lambda form, *args: replace(form, sparse=form.sparse * torch.inf))
    before = copy.deepcopy(model.module.state_dict())
    repaired(model, dense)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def quantised(model: SmallModel, name: str) -> Form:
    form = model.unit(name).read()
    assert form.sparse is not None
    step = form.sparse.abs().amax(1).clamp_min(1e-6) / 127
    sparse = from_grid((form.sparse / step[:, None]).round().to(torch.int8), step)
    return replace(form, sparse=sparse, sparse_step=step)


@pytest.mark.parametrize("way", ["least_squares", "null_space"])
def test_a_quantised_unit_keeps_its_values_and_has_its_bias_settled(
    model: SmallModel, dense: SmallModel, way: str
) -> None:
    before = quantised(model, "hidden")
    model.unit("hidden").write(before)
    report = repaired(model, dense, way)
    after = model.unit("hidden").read()
    assert after.sparse is not None
    assert before.sparse is not None
    assert torch.equal(after.sparse, before.sparse)
    assert after.quantised
    assert report.touched["hidden"]["note"] == "kept its values, which are quantised: only the bias is settled"
    x, y = rows_at(model, dense, "hidden")
    np.testing.assert_allclose(answers(model, "hidden", x).mean(0), y.mean(0), atol=1e-5)


def test_scales_of_a_quantised_unit_go_into_its_steps(model: SmallModel, dense: SmallModel) -> None:
    before = quantised(model, "hidden")
    model.unit("hidden").write(before)
    report = repaired(model, dense, "scales")
    after = model.unit("hidden").read()
    assert after.sparse is not None
    assert after.sparse_step is not None
    assert before.sparse is not None
    assert before.sparse_step is not None
    scale = after.sparse_step / before.sparse_step
    assert float((scale - 1).abs().max()) > 0.05
    whole = to_grid(after.sparse, after.sparse_step)
    assert torch.equal(whole.abs(), to_grid(before.sparse, before.sparse_step).abs())
    assert report.touched["hidden"]["error_after"] < report.touched["hidden"]["error_before"]


def test_the_preserved_inputs_are_the_half_that_is_reproduced_best(model: SmallModel, dense: SmallModel) -> None:
    units = [model.unit("conv")]
    (moment,) = (
        module._reproduced(fit, fit.unit.read())
        for fit in layer_fits(model, dense, units, BATCHES, torch.float64, rows=True)
    )
    x, y = rows_at(model, dense, "conv")
    share = ((y - answers(model, "conv", x)) ** 2).sum(1) / (y**2).sum(1)
    best = x[np.argsort(share)[: len(x) // 2]]
    np.testing.assert_allclose(moment.numpy(), best.T @ best / len(best), rtol=1e-4, atol=1e-5)


def test_the_null_space_leaves_the_bias_alone(model: SmallModel, dense: SmallModel) -> None:
    before = bias(model)
    report = repaired(model, dense, "null_space", null_space_energy=0.5)
    assert torch.equal(bias(model), before)
    assert "hidden" not in report.facts["not_repaired"]


def test_the_repair_comes_first_and_the_learned_scales_on_top(model: SmallModel, dense: SmallModel) -> None:
    targets = dense_outputs(dense, BATCHES)
    closed = copy.deepcopy(model)
    repaired(closed, dense)
    at_closed = (
        AlphaEditor(repair="none", num_epochs=1).apply(closed, context(dense, targets=targets)).facts["losses"][0]
    )
    report = AlphaEditor(repair="least_squares", num_epochs=3).apply(model, context(dense, targets=targets))
    assert report.facts["losses"][0] == at_closed
    assert report.facts["loss_after"] <= at_closed
    assert report.touched["head"].keys() >= {"error_before", "error_after", "importance_mean", "alpha_mean"}


def test_the_same_repair_gives_the_same_bits(model: SmallModel, dense: SmallModel) -> None:
    other = copy.deepcopy(model)
    for subject in (model, other):
        repaired(subject, dense)
    first, second = (subject.module.state_dict() for subject in (model, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("way", ["scales", "least_squares", "null_space"])
def test_repair_needs_batches_and_a_dense_model_but_no_targets(model: SmallModel, way: str) -> None:
    stage = AlphaEditor(repair=way, num_epochs=0)
    assert (stage.needs_calibration, stage.needs_targets) == (True, False)
    with pytest.raises(UserError, match=f"repair={way} fits to the dense model's outputs, and no dense model is given"):
        stage.apply(model, StageContext(calibration=BATCHES))
    with pytest.raises(UserError, match="no calibration data"):
        stage.apply(model, StageContext(dense=lambda: nullcontext(model)))
    assert AlphaEditor(repair=way, num_epochs=1).needs_targets


def test_options_out_of_range_are_all_named() -> None:
    with pytest.raises(UserError) as caught:
        AlphaEditor(repair="magic", repair_rounds=0, damping=0, null_space_energy=1.0)
    assert len(caught.value.problems) == 4
    for found in ("repair 'magic'", "repair_rounds is 0", "damping is 0", "null_space_energy is 1.0"):
        assert any(found in problem for problem in caught.value.problems)


def test_the_plan_says_what_is_repaired(model: SmallModel) -> None:
    plans = [UnitPlan.of(unit) for unit in model.units()]
    notes = {plan.name: plan.note for plan in AlphaEditor(repair="least_squares", num_epochs=2).plan(plans, 2)}
    assert notes["head"] == "repaired (least_squares), a scale per output channel, folded: as many values as before"
    closed = AlphaEditor(repair="scales", num_epochs=0).plan(plans, 2)
    assert {plan.name: plan.note for plan in closed}["head"] == "repaired (scales): as many values as before"
