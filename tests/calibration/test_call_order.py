"""The order of calls: merged from all batches, repeats known, recorded once, contradictions refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rcc.calibration.call_order import call_order, calls_of
from rcc.errors import WorkError
from rcc.layers.units import find_units


class Routed:
    """Calls the layers that a batch names, one after the other."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({name: nn.Linear(2, 2) for name in "abcd"})
        self.forwards = 0

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.forwards += 1
        hidden = torch.ones(1, 2)
        for index in batch["way"].tolist():
            hidden = self.module["abcd"[index]](hidden)
        return {"out": hidden}


def ways(*words: str) -> list[dict[str, Tensor]]:
    return [{"way": torch.tensor(["abcd".index(letter) for letter in word])} for word in words]


@pytest.mark.parametrize(
    ("words", "names", "repeated"),
    [
        (["abc"], "abc", ""),
        (["acd", "bd"], "acbd", ""),
        (["bd", "abcd"], "abcd", ""),
        (["aab", "ab"], "ab", "a"),
        (["abab"], "ab", "ab"),
        ([], "", ""),
    ],
)
def test_the_order_agrees_with_every_batch(words: list[str], names: str, repeated: str) -> None:
    model = Routed()
    found = call_order(model, find_units(model.module), ways(*words))
    assert found.names == tuple(names)
    assert found.repeated == set(repeated)


def test_opposite_orders_are_refused_with_the_options_that_need_none() -> None:
    model = Routed()
    with pytest.raises(WorkError, match=r"a and b in opposite orders.*solver=none with score=wanda"):
        call_order(model, find_units(model.module), ways("ab", "ba"))


def test_an_order_is_recorded_once_for_the_same_batches_and_again_for_others() -> None:
    model, given = Routed(), ways("abc", "ab")
    units = find_units(model.module)
    call_order(model, units, given)
    assert call_order(model, units[:2], given).names == ("a", "b")
    assert model.forwards == 2
    call_order(model, units, ways("abc", "ab"))
    assert model.forwards == 4
    given[0]["way"][0] = 3
    assert call_order(model, units, given).names == ("d", "a", "b", "c")
    assert model.forwards == 6


def test_every_call_of_a_layer_is_given_with_its_output() -> None:
    model = Routed()
    units = {unit.name: unit for unit in find_units(model.module)}
    (batch,) = ways("aba")
    first, second = calls_of(model, units["a"], batch)
    torch.testing.assert_close(first.given, torch.ones(1, 2))
    torch.testing.assert_close(second.given, model.module["b"](first.output))
    assert not second.output.requires_grad
    assert not any(module._forward_hooks for module in model.module.modules())
