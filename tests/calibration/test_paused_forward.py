"""Forwards that pause before layers and are resumed: the same outputs, one pause a unit, nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rcc.calibration.paused_forward import DenseForward, PausedForward, pausing_around, pausing_before
from rcc.layers.units import find_units


class Chain:
    """a, then b twice, then c; `finished` outputs."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.ModuleDict({name: nn.Linear(3, 3) for name in "abc"})
        self.finished: list[Tensor] = []
        self.closed = 0

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        part = self.module
        try:
            out = part["c"](part["b"](part["b"](part["a"](batch["x"]).tanh())))
            self.finished.append(out)
        finally:
            self.closed += 1
        return {"out": out}


BATCH = {"x": torch.ones(2, 3)}


@pytest.fixture
def model() -> Chain:
    return Chain()


def test_a_forward_pauses_before_each_units_first_call_with_its_input_and_ends_as_it_would_have(model: Chain) -> None:
    expected = model.outputs(BATCH)["out"]
    part = model.module
    inputs = {"a": BATCH["x"], "b": part["a"](BATCH["x"]).tanh()}
    inputs["c"] = part["b"](part["b"](inputs["b"]))
    with pausing_before(find_units(part)):
        forward = PausedForward(model, BATCH)
        for name in "abc":
            forward.resume()
            assert forward.due == name
            assert forward.pause is not None
            torch.testing.assert_close(forward.pause.tensor, inputs[name])
        forward.resume()
        assert forward.due is None
        forward.resume()  # past the end there is nothing to do
    torch.testing.assert_close(model.finished[-1], expected)
    assert not model.finished[-1].requires_grad


def test_two_forwards_wait_at_places_of_their_own(model: Chain) -> None:
    with pausing_before(find_units(model.module)):
        first, second = PausedForward(model, BATCH), PausedForward(model, {"x": torch.zeros(2, 3)})
        first.resume()
        second.resume()
        first.finish_layer("a")
        assert (first.due, second.due) == ("b", "a")
        second.finish_layer("b")  # it waits elsewhere: nothing happens
        assert second.due == "a"
        second.close()
        first.close()


def test_a_weight_written_while_the_forward_waits_is_the_one_that_it_goes_on_with(model: Chain) -> None:
    units = {unit.name: unit for unit in find_units(model.module)}
    with pausing_before([*units.values()]):
        forward = PausedForward(model, BATCH)
        forward.resume()
        with torch.no_grad():
            for parameter in model.module["a"].parameters():
                parameter.zero_()
        forward.resume()
        assert forward.pause is not None
        assert forward.pause.tensor.tolist() == [[0.0] * 3] * 2
        forward.close()


def test_a_pre_hook_of_the_models_has_run_before_the_pause(model: Chain) -> None:
    model.module["a"].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    with pausing_before(find_units(model.module)):
        forward = PausedForward(model, BATCH)
        forward.resume()
        assert forward.pause is not None
        assert forward.pause.tensor.tolist() == [[2.0] * 3] * 2
        forward.close()


def test_closing_runs_what_the_forward_has_to_finish_and_leaves_the_modules_as_they_were(model: Chain) -> None:
    with pausing_before(find_units(model.module)):
        forward = PausedForward(model, BATCH)
        forward.resume()
        forward.close()
        assert (model.closed, model.finished) == (1, [])
        forward.close()
    assert not any("forward" in vars(module) for module in model.module.values())
    with pausing_around(find_units(model.module)):
        pass
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.values())


def test_grad_mode_stays_that_of_whoever_resumes(model: Chain) -> None:
    with pausing_before(find_units(model.module)):
        forward = PausedForward(model, BATCH)
        forward.resume()
        assert torch.is_grad_enabled()
        forward.close()
        assert torch.is_grad_enabled()


def test_outside_a_paused_forward_the_layers_run_on(model: Chain) -> None:
    with pausing_before(find_units(model.module)):
        model.outputs(BATCH)
    with pausing_around(find_units(model.module)):
        model.outputs(BATCH)
    assert torch.equal(*model.finished)


@pytest.mark.parametrize("passing", ["", "b", "ab", "abc"])
def test_a_dense_forward_gives_each_units_output_whether_it_waits_before_it_or_runs_through(
    model: Chain, passing: str
) -> None:
    part = model.module
    inputs = [BATCH["x"], part["a"](BATCH["x"]).tanh()]
    inputs.append(part["b"](part["b"](inputs[1])))
    with pausing_around(find_units(part)):
        forward = DenseForward(model, BATCH, passing)
        forward.resume()
        for name, given in zip("abc", inputs, strict=True):
            assert forward.due == name
            if name in passing:
                assert forward.given is None
            else:
                torch.testing.assert_close(forward.given, given)
            torch.testing.assert_close(forward.output(), part[name](given))
            forward.finish_layer(name)
        assert forward.due is None
    assert len(model.finished) == 1
