"""The one walk: order, reasons, and nothing held of a layer that is done."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn
from toys.models import SmallModel, batches

from rcc.calibration.layer_fits import LayerFit
from rcc.layers.units import Unit
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.layerwise import UNREACHED, Unfitted, layerwise


class Everything(nn.Module):
    """A table, a norm, a grouped convolution, two layers that are called and two that give or get nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)
        self.silent = nn.Linear(8, 8)
        self.first = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.table = nn.Embedding(5, 8)
        self.grouped = nn.Conv1d(8, 8, 1, groups=2)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.norm(self.table(ids))
        hidden = self.grouped(hidden.mT).mT
        return self.last(self.first(hidden) + self.silent(torch.zeros_like(hidden)))


def walked(target: str) -> list[tuple[str, str]]:
    torch.manual_seed(0)
    model = ModuleAdapter(Everything())
    context = StageContext(calibration=[{"ids": torch.randint(5, (4, 6))} for _ in range(2)])
    steps = layerwise(model, context, model.units(), target=target)
    return [(step.unit.name, step.reason if isinstance(step, Unfitted) else "") for step in steps]


@pytest.mark.parametrize("target", ["dense", "own"])
def test_units_come_unfittable_first_then_as_they_are_called_then_those_never_reached(target: str) -> None:
    assert walked(target) == [
        ("norm", "a norm is no sum over inputs"),
        ("table", "an embedding looks its rows up: it has no inputs to fit on"),
        ("grouped", ""),
        ("first", ""),
        ("silent", UNREACHED),
        ("last", ""),
        ("idle", UNREACHED),
    ]


def test_what_a_layer_held_is_gone_when_the_walk_goes_on_whoever_keeps_it() -> None:
    model = SmallModel()
    kept: list[LayerFit] = []
    sums: list[weakref.ref[Tensor]] = []
    for step in layerwise(model, StageContext(calibration=batches(2)), model.units()):
        if isinstance(step, Unfitted):
            continue
        assert all(alive() is None for alive in sums)
        kept.append(step)
        sums.append(weakref.ref(step.covariance))
    assert len(kept) > 2
    with pytest.raises(ValueError, match="are gone"):
        kept[0].objective()
    assert isinstance(kept[0].unit, Unit)
