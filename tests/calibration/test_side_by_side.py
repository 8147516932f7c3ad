"""Two models side by side: the order, what is seen after a layer was changed, and that nothing stays behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toys.models import SharedInputs as Model
from toys.models import token_batches as batches

from rcc.calibration.side_by_side import LayerCall, layer_visits
from rcc.layers.form import Form
from rcc.layers.units import find_units


def test_units_come_in_the_order_of_their_first_call_with_all_batches_at_once() -> None:
    model = Model()
    found = [
        (visit.unit.name, len(visit.calls))
        for visit in layer_visits(model, model.double(), find_units(model.module), batches(3))
    ]
    assert found == [("q", 3), ("k", 3), ("out", 3), ("conv", 3)]


def test_two_forwards_a_batch_are_all_that_it_takes() -> None:
    model = Model()
    dense = model.double()
    given = batches(3)
    list(layer_visits(model, dense, find_units(model.module), given))
    assert (model.calls, dense.calls) == (6, 3)  # one of them to learn the order of calls
    list(layer_visits(model, dense, find_units(model.module), given))
    assert (model.calls, dense.calls) == (9, 6)


def test_a_layer_changed_on_the_spot_is_what_the_waiting_forward_goes_on_through() -> None:
    model = Model()
    dense = model.double()
    seen: dict[str, list[LayerCall]] = {}
    wanted: dict[str, list[Tensor]] = {}
    for visit in layer_visits(model, dense, find_units(model.module), batches(2)):
        unit = visit.unit
        seen[unit.name], wanted[unit.name] = list(visit.calls), [output for _, output in visit.outputs()]
        if unit.name == "k":  # becomes another module: the pair of a low rank
            unit.write(Form(left=torch.zeros(4, 1), right=torch.zeros(1, 6)))
        if unit.name == "q":  # stays the same module
            unit.write(replace(unit.read(), sparse=torch.ones(4, 6)))
    assert all(not call.given.any() for call in seen["out"])
    tokens = batches(2)[0]["tokens"]
    torch.testing.assert_close(wanted["out"][0], dense.outputs(batches(2)[0])["text"])
    assert seen["q"][0].given is not tokens
    torch.testing.assert_close(seen["q"][0].given, tokens)


def test_shared_inputs_are_the_very_same_tensor() -> None:
    model = Model()
    met = layer_visits(model, model.double(), find_units(model.module), batches(1))
    calls = {visit.unit.name: visit.calls[0] for visit in met}
    assert calls["q"].given is calls["k"].given
    assert calls["q"].dense_given is calls["k"].dense_given


@pytest.mark.parametrize("passing", [("q",), ("out",), ("q", "k", "out"), ("q", "k", "out", "conv")])
def test_units_passed_ahead_give_the_same_outputs_at_the_same_layer_visits(passing: tuple[str, ...]) -> None:
    model = Model()
    dense = model.double()
    units = find_units(model.module)

    def met(ahead: tuple[str, ...]) -> dict[str, list[tuple[bool, Tensor]]]:
        found = {}
        for visit in layer_visits(model, dense, units, batches(2), ahead):
            outputs = [(call.dense_given is None, output) for call, output in visit.outputs()]
            assert not visit.calls
            found[visit.unit.name] = outputs
        return found

    waiting, passed = met(()), met(passing)
    assert list(passed) == ["q", "k", "out", "conv"]
    for name, outputs in passed.items():
        assert [gone for gone, _ in outputs] == [name in passing] * 2
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(outputs, waiting[name], strict=True))


def test_outputs_that_nobody_asks_for_are_passed_by() -> None:
    model = Model()
    met = layer_visits(model, model.double(), find_units(model.module), batches(2), ("k",))
    assert [visit.unit.name for visit in met] == ["q", "k", "out", "conv"]


def test_the_dense_weight_can_be_read_while_its_output_is_looked_at() -> None:
    model = Model()
    dense = model.double()
    with torch.no_grad():
        model.module["q"].weight.zero_()
    met = layer_visits(model, dense, find_units(model.module), batches(2))
    visit = next(met)
    for call, output in visit.outputs():
        assert call.dense_given is not None
        form = visit.dense_unit.read()
        torch.testing.assert_close(output, call.dense_given @ form.dense().T + form.bias)


def test_a_unit_that_is_called_again_is_met_once() -> None:
    class Twice(Model):
        def outputs(self, batch):  # type: ignore[no-untyped-def]
            return {"out": self.module["q"](batch["tokens"]) + self.module["q"](batch["tokens"] * 2)}

    model = Twice()
    met = [one.unit.name for one in layer_visits(model, model.double(), find_units(model.module), batches(2))]
    assert met == ["q"]


@pytest.mark.parametrize("stop_at", [None, "q", "out"])
def test_nothing_is_left_behind_when_the_iterator_ends_or_is_left(stop_at: str | None) -> None:
    model = Model()
    model.module.train()
    dense = model.double()
    for visit in (iterator := layer_visits(model, dense, find_units(model.module), batches(2))):
        if visit.unit.name == stop_at:
            break
    iterator.close()
    assert model.module.training
    for one in (model, dense):
        assert not any("forward" in module.__dict__ for module in one.module.modules())
    model.outputs(batches(1)[0])["text"].sum().backward()
    assert model.module["out"].weight.grad is not None


def test_gradients_are_off_inside_the_models_and_untouched_outside() -> None:
    model = Model()
    for visit in layer_visits(model, model.double(), find_units(model.module), batches(1)):
        for _, output in visit.outputs():
            assert torch.is_grad_enabled()
            assert not output.requires_grad


def test_an_error_in_a_forward_comes_through() -> None:
    model = Model()
    broken = batches(1)
    del broken[0]["images"]
    with pytest.raises(KeyError):
        list(layer_visits(model, model.double(), find_units(model.module), broken))
    assert not any("forward" in module.__dict__ for module in model.module.modules())


def test_a_layer_that_the_dense_model_does_not_run_is_passed() -> None:
    model = Model()

    class Other(Model):
        def outputs(self, batch):  # type: ignore[no-untyped-def]
            return {"text": self.module["out"](self.module["k"](batch["tokens"]))}

    visits = layer_visits(model, Other(), find_units(model.module), batches(1))
    assert [visit.unit.name for visit in visits] == ["k", "out"]


def test_tied_layers_are_met_once_under_the_first_name() -> None:
    class Tied(Model):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.ModuleDict({"a": nn.Linear(6, 6, bias=False), "b": nn.Linear(6, 6, bias=False)})
            self.module["b"].weight = self.module["a"].weight

        def outputs(self, batch):  # type: ignore[no-untyped-def]
            return {"out": self.module["b"](self.module["a"](batch["tokens"]))}

    model = Tied()
    met = [one.unit.name for one in layer_visits(model, model.double(), find_units(model.module), batches(1))]
    assert met == ["a"]
