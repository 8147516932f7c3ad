"""Moments of a layer's inputs and wanted outputs against numpy on the very rows; the best bias; shared sums."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.models import SharedInputs as Model
from toys.models import token_batches as batches

from rcc.calibration.call_order import calls_of
from rcc.calibration.layer_fits import LayerFit, layer_fits
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.input_rows import input_rows
from rcc.layers.units import find_units
from rcc.models.own.module import ModuleAdapter


def gathered(model: Model, dense: Model, count: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, LayerFit]:
    fits = layer_fits(model, dense, find_units(model.module), batches(count), dtype)
    return {fit.unit.name: copy(fit) for fit in fits}  # a copy is not released


def token_rows(count: int = 3) -> np.ndarray:
    return np.concatenate([batch["tokens"][batch["attention_mask"] != 0].numpy() for batch in batches(count)])


def outputs(module: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    return module(torch.from_numpy(rows)).detach().numpy()


def test_moments_are_those_of_the_rows_that_count() -> None:
    model = Model()
    dense = model.double()
    with torch.no_grad():
        model.module["q"].weight.mul_(0.5)
    fit = gathered(model, dense)["q"]
    x, y = token_rows().astype(np.float64), outputs(dense.module["q"], token_rows()).astype(np.float64)
    assert fit.inputs.samples == len(x)
    np.testing.assert_allclose(fit.inputs.moment, x.T @ x / len(x), rtol=1e-6)
    np.testing.assert_allclose(fit.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(fit.energy, (y**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(fit.mean, y.mean(0), rtol=1e-5, atol=1e-7)


def test_convolution_rows_and_outputs_belong_together() -> None:
    model = Model()
    dense = model.double()
    fit = gathered(model, dense)["conv"]
    weight = dense.module["conv"].weight.detach().flatten(1).double()
    assert fit.objective().relative_error(weight) < 1e-9
    rows = [part[0] for b in batches(3) for part in input_rows(model.module["conv"], b["images"])]
    assert fit.inputs.samples == sum(map(len, rows))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Conv2d(3, 6, 3)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.grouped = nn.ConvTranspose2d(6, 4, 2, 2, groups=2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.grouped(self.depthwise(self.stem(images).relu()))
        return found


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["depthwise", "grouped"])
def test_a_grouped_convolution_has_the_moments_of_each_group(name: str, own: bool) -> None:
    model, dense = ModuleAdapter(Grouped()), ModuleAdapter(Grouped())
    given = [{"images": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(n))} for n in range(2)]
    with torch.no_grad():
        model.module.stem.weight.mul_(0.7)
    unit = next(unit for unit in model.units() if unit.name == name)
    inputs = [call.given for batch in given for call in calls_of(model, unit, batch)]
    x = torch.cat([part for one in inputs for part in input_rows(unit.module, one)], 1).double()
    target = model if own else dense
    outputs = [call.output for batch in given for call in calls_of(target, replace(unit, root=target.module), batch)]
    y = torch.cat(outputs).movedim(1, -1).flatten(0, -2).unflatten(1, (unit.groups, -1)).movedim(1, 0).double()
    fit = copy(next(iter(layer_fits(model, None if own else dense, [unit], given, torch.float64, rows=not own))))
    assert fit.inputs.samples == x.shape[1]
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    dx, dy = x - mean_x, y - mean_y
    torch.testing.assert_close(fit.inputs.covariance, dx.mT @ dx / x.shape[1])
    torch.testing.assert_close(fit.inputs.moment, x.mT @ x / x.shape[1])
    torch.testing.assert_close(fit.cross, (y.mT @ x / x.shape[1]).flatten(0, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fit.mean, mean_y.flatten(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fit.variance, dy.square().mean(1).flatten(), rtol=1e-5, atol=1e-6)
    weight = fit.unit.read().dense().double()
    errors = (
        (dy - dx @ weight.view(len(x), -1, x.shape[2]).mT)
        if fit.has_bias
        else y - x @ weight.view(len(x), -1, x.shape[2]).mT
    )
    torch.testing.assert_close(fit.objective().error(weight), errors.square().mean(1).flatten(), rtol=1e-4, atol=1e-6)
    if not own:
        rows = [torch.cat(parts, -2) for parts in zip(*fit.rows(), strict=True)]
        torch.testing.assert_close(rows[0].double(), x)
        torch.testing.assert_close(rows[1].double(), y)


def test_a_group_whose_inputs_do_not_vary_leaves_its_weight_to_what_it_is_kept_near() -> None:
    layer = nn.Conv1d(2, 2, 3, groups=2)
    images = torch.randn(5, 2, 9)
    images[:, 1] = 3.0
    model = ModuleAdapter(nn.Sequential(layer))
    fit = copy(next(iter(layer_fits(model, None, model.units(), [{"input": images}]))))
    assert fit.varies
    problem = fit.objective()
    assert not bool(problem.moment[1].any() | problem.cross[1].any())
    near = torch.ones(2, 3)
    torch.testing.assert_close(fit.damped(near).solution[1], near[1])


def test_the_dense_weight_is_the_minimum_while_nothing_is_compressed() -> None:
    model = Model()
    for fit in gathered(model, model.double()).values():
        form = fit.unit.read()
        problem = fit.damped(form.sparse, 1e-9)
        torch.testing.assert_close(problem.solution, form.sparse.double(), rtol=1e-4, atol=1e-4)


def test_the_objective_is_the_mean_squared_error_with_the_best_bias() -> None:
    model = Model()
    dense = model.double()
    fit = gathered(model, dense)["q"]
    other = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bias = fit.settled(Form(sparse=other, bias=torch.zeros(4, dtype=torch.float64))).bias
    x, y = token_rows().astype(np.float64), outputs(dense.module["q"], token_rows()).astype(np.float64)
    left = y - x @ other.numpy().T
    np.testing.assert_allclose(bias, left.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(fit.objective().error(other), ((left - left.mean(0)) ** 2).mean(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["q", "conv"])
def test_rows_are_the_inputs_with_their_wanted_outputs_while_the_iterator_waits(name: str) -> None:
    model = Model()
    dense = model.double()
    for fit in layer_fits(model, dense, find_units(model.module), batches(), dtype=torch.float64, rows=True):
        if fit.unit.name == name:
            x, y = (torch.cat(parts).double() for parts in zip(*fit.rows(), strict=True))
            assert len(x) == fit.inputs.samples
            torch.testing.assert_close(y.T @ x / len(x), fit.cross)
            found = fit
    with pytest.raises(ValueError, match=f"the statistics at {name} are gone"):
        found.rows()


def test_without_a_bias_none_is_made_up() -> None:
    model = Model()
    dense = model.double()
    fit = gathered(model, dense)["k"]
    other = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert fit.settled(Form(sparse=other)).bias is None
    x, y = token_rows().astype(np.float64), outputs(dense.module["k"], token_rows()).astype(np.float64)
    np.testing.assert_allclose(fit.objective().error(other), ((y - x @ other.numpy().T) ** 2).mean(0), rtol=1e-5)


def test_shared_inputs_are_summed_once() -> None:
    found = gathered(model := Model(), model.double())
    assert found["q"].inputs is found["k"].inputs
    assert found["q"].inputs is not found["out"].inputs


def test_later_layers_are_fitted_to_the_dense_outputs_on_the_inputs_they_now_get() -> None:
    model = Model()
    dense = model.double()
    for fit in layer_fits(model, dense, find_units(model.module), batches(), dtype=torch.float64):
        if fit.unit.name == "q":
            fit.unit.write(replace(fit.unit.read(), sparse=torch.zeros(4, 6)))
        if fit.unit.name == "out":
            rows, wanted = [], []
            for batch in batches():
                tokens = batch["tokens"][batch["attention_mask"] != 0]
                rows.append(model.module["q"](tokens).sigmoid() * model.module["k"](tokens))
                wanted.append(dense.outputs(batch)["text"][batch["attention_mask"] != 0])
            x, y = torch.cat(rows).double(), torch.cat(wanted).double()
            torch.testing.assert_close(fit.inputs.moment, x.T @ x / len(x), rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(fit.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-8)


def test_a_unit_that_never_fires_says_so() -> None:
    model = Model()
    silent = [{**batch, "tokens": torch.zeros_like(batch["tokens"])} for batch in batches(1)]
    fit = next(layer_fits(model, model.double(), find_units(model.module), silent))
    assert not fit.fired
    assert "no calibration batch" in fit.note


def test_inputs_that_do_not_vary_leave_the_weight_to_what_it_is_kept_near() -> None:
    """All of them alike but for rounding: a bias makes up for any weight, and noise must not choose one."""
    model = Model()
    noise = torch.Generator().manual_seed(0)
    alike = [
        {
            **batch,
            "tokens": torch.full_like(batch["tokens"], 0.1)
            + 1e-7 * torch.randn(batch["tokens"].shape, generator=noise),
        }
        for batch in batches(3)
    ]
    found = {fit.unit.name: copy(fit) for fit in layer_fits(model, model.double(), find_units(model.module), alike)}
    fit = found["q"]
    assert fit.has_bias
    assert fit.fired
    assert not fit.varies
    assert "the same in every row" in fit.note
    assert float(fit.inputs.covariance.diagonal().mean()) > 0
    near = torch.randn(fit.unit.shape, generator=noise, dtype=torch.float64)
    torch.testing.assert_close(fit.damped(near).solution, near.to(fit.mean), rtol=1e-6, atol=1e-6)


def test_fewer_rows_than_inputs_are_said() -> None:
    model = Model()
    few = [{key: value[:1, :2] if key != "images" else value[:1] for key, value in batches(1)[0].items()}]
    fit = next(layer_fits(model, model.double(), find_units(model.module), few))
    assert fit.note.startswith("2 rows of calibration inputs for 6 dimensions")


def test_nan_inputs_are_refused_by_the_name_of_the_unit() -> None:
    model = Model()
    broken: list[dict[str, Tensor]] = batches(1)
    broken[0]["tokens"][0, 0, 0] = torch.nan
    with pytest.raises(WorkError, match="wanted outputs of q hold a NaN"):
        list(layer_fits(model, model.double(), find_units(model.module), broken))


def test_layers_of_one_input_but_different_kernels_have_moments_of_their_own() -> None:
    class Branches(Model):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.ModuleDict({"wide": nn.Conv2d(2, 3, 3, padding=1), "narrow": nn.Conv2d(2, 3, 1)})

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"image": self.module["wide"](batch["images"]) + self.module["narrow"](batch["images"])}

    found = gathered(model := Branches(), model.double())
    for name, width in (("wide", 18), ("narrow", 2)):
        assert found[name].inputs.moment.shape == (width, width)
        weight = model.module[name].weight.detach().flatten(1).double()
        assert found[name].objective().relative_error(weight) < 1e-9


def test_an_input_that_was_changed_in_place_is_summed_anew() -> None:
    class InPlace(Model):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            tokens = batch["tokens"].clone()
            first = self.module["q"](tokens)
            return {"text": first + self.module["k"](tokens.mul_(2))}

    found = gathered(model := InPlace(), model.double())
    torch.testing.assert_close(found["k"].inputs.moment, 4 * found["q"].inputs.moment)


def test_of_its_own_outputs_what_is_wanted_is_what_the_layer_makes_of_the_rows_that_count() -> None:
    model = Model()
    found = {
        fit.unit.name: copy(fit) for fit in layer_fits(model, None, find_units(model.module), batches(), torch.float64)
    }
    x = np.concatenate([batch["tokens"][batch["attention_mask"] != 0].numpy() for batch in batches()])
    for name in ("q", "k"):
        fit, y = found[name], model.module[name](torch.from_numpy(x)).detach().numpy().astype(np.float64)
        assert fit.inputs.samples == len(x)
        np.testing.assert_allclose(fit.inputs.covariance, np.cov(x.T.astype(np.float64), bias=True), atol=1e-7)
        np.testing.assert_allclose(fit.mean, y.mean(0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(fit.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fit.energy, (y**2).mean(0), rtol=1e-5)
    assert list(found) == ["q", "k", "out", "conv"]


def test_to_its_own_outputs_units_of_one_input_share_its_moments() -> None:
    model = Model()
    found = {fit.unit.name: copy(fit) for fit in layer_fits(model, None, find_units(model.module), batches())}
    assert found["q"].inputs is found["k"].inputs is not found["out"].inputs


def test_to_its_own_outputs_later_layers_are_met_on_what_the_earlier_ones_have_become() -> None:
    model = Model()
    for fit in layer_fits(model, None, find_units(model.module), batches()):
        if fit.unit.name == "k":
            fit.unit.write(Form(torch.zeros(4, 6)))
        if fit.unit.name == "out":
            assert not fit.fired


def test_to_its_own_outputs_inputs_that_are_not_finite_are_named() -> None:
    model, data = Model(), batches()
    data[1]["tokens"][0, 0, 0] = float("nan")
    with pytest.raises(WorkError, match="inputs of q hold a NaN"):
        list(layer_fits(model, None, find_units(model.module), data))


class Siamese(Model):
    """Two inputs through one tower, and a block that is applied to its own output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.module = nn.ModuleDict({"tower": nn.Linear(6, 5), "block": nn.Linear(5, 5)})

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        one, other = (self.module["tower"](batch["tokens"] * factor) for factor in (1.0, -0.5))
        hidden = torch.tanh(one * other)
        for _ in range(3):
            hidden = torch.tanh(self.module["block"](hidden))
        return {"out": hidden}


def every_call(model: Siamese, name: str, given: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """All inputs and outputs of a layer, by a hook of the test's own."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = model.module[name].register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    with torch.no_grad():
        for batch in given:
            model.outputs(batch)
    handle.remove()
    inputs, outputs_ = zip(*seen, strict=True)
    return (torch.cat([part.flatten(0, -2).double() for part in parts]) for parts in (inputs, outputs_))


@pytest.mark.parametrize("name", ["tower", "block"])
def test_sums_of_a_layer_called_several_times_are_of_all_its_calls(name: str) -> None:
    model, dense = Siamese(), Siamese()
    with torch.no_grad():
        model.module["tower"].weight.mul_(0.7)
    given = [{"tokens": batch["tokens"]} for batch in batches(2)]
    x, _ = every_call(model, name, given)
    _, y = every_call(dense, name, given)
    found = gathered_of(model, dense, given)[name]
    assert found.inputs.samples == len(x)
    torch.testing.assert_close(found.inputs.moment, x.T @ x / len(x), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.cross, y.T @ x / len(x), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.energy, y.square().mean(0), rtol=1e-5, atol=1e-8)
    alone = {fit.unit.name: copy(fit) for fit in layer_fits(model, None, find_units(model.module), given)}[name]
    torch.testing.assert_close(alone.inputs.moment.double(), x.T @ x / len(x), rtol=1e-5, atol=1e-6)


def gathered_of(model: Model, dense: Model, given: list[dict[str, Tensor]]) -> dict[str, LayerFit]:
    fits = layer_fits(model, dense, find_units(model.module), given, torch.float64)
    return {fit.unit.name: copy(fit) for fit in fits}


def test_batches_that_do_not_reach_a_layer_leave_its_sums_to_those_that_do() -> None:
    class Experts(Model):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            expert = "q" if batch["tokens"].shape[1] == 3 else "k"
            return {"text": self.module["out"](self.module[expert](batch["tokens"]))}

    model = Experts()
    given = [{"tokens": batch["tokens"]} for batch in batches(4)]
    found = gathered_of(model, model.double(), given)
    assert set(found) == {"q", "k", "out"}
    for name, length in (("q", 3), ("k", None)):
        rows = [b["tokens"].flatten(0, 1) for b in given if (b["tokens"].shape[1] == 3) == (length == 3)]
        x = torch.cat(rows).double()
        assert found[name].inputs.samples == len(x)
        torch.testing.assert_close(found[name].inputs.moment, x.T @ x / len(x), rtol=1e-6, atol=1e-9)
    assert found["out"].inputs.samples == found["q"].inputs.samples + found["k"].inputs.samples
