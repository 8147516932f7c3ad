"""runtime=…: the loaded model made fast on this machine, and what it then costs beside the dense one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console as Terminal

from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.jobs.request import Request
from rcc.models.adapter import Adapter
from rcc.reporting.drawing import draw, say
from rcc.reporting.inference import efficiency_table, runtime_lines, runtime_table
from rcc.runtime.efficiency import efficiency
from rcc.runtime.flops import theoretical_flops
from rcc.runtime.optimise import optimise

LARGEST_BATCH = 32
DENSE, AS_RUN = "dense", "as run"


class Inference:
    """One model on its way from how it was loaded to how it runs.

    Batches come from the calibration split: images with their captions, 1 and up to 32 of them.
    """

    def __init__(self, request: Request, model: Adapter, split: Split, terminal: Terminal) -> None:
        self.request, self.model, self.terminal = request, model, terminal
        self.split = split.take(min(LARGEST_BATCH, len(split)))
        self.layers = {unit.name: unit.shape for unit in model.units()}
        self.content: dict[str, Any] = {}

    def speed_up(self) -> None:
        """Choose kernels as `runtime=` asks, put them in place, and say what was picked."""
        run = self._passes(self.model)[len(self.split)]
        self.theoretical = {AS_RUN: theoretical_flops(run, self.model.units())}
        plan = optimise(self.model, self._batch(self.model, len(self.split)), self.request.settings["runtime"])
        for line in runtime_lines(plan):
            say(self.terminal, line)
        draw(self.terminal, runtime_table(plan))
        self.content["plan"] = plan.to_json()

    def compare(self) -> None:
        """Latency and throughput of the model as it runs now, beside the dense one where that can be loaded."""
        models = {AS_RUN: self._passes(self.model)}
        try:
            dense = self._dense()
        except UserError as error:
            say(self.terminal, f"Without the dense model beside it: {error}")
        else:
            passes = self._passes(dense)
            self.theoretical[DENSE] = theoretical_flops(passes[len(self.split)], dense.units())
            models = {DENSE: passes, **models}
        measured = efficiency(models, self.theoretical, self.model.device)
        where = f"{self.model.device} with {torch.get_num_threads()} threads"
        say(self.terminal, f"One pass over images with their captions, taken in turns on {where}; FLOPs of one item:")
        draw(self.terminal, efficiency_table(measured))
        self.content["efficiency"] = [each.to_json() for each in measured]

    def _dense(self) -> Adapter:
        """The model of `model=`, if the one measured can have come from it."""
        dense = self.request.model().eval()
        if {unit.name: unit.shape for unit in dense.units()} != self.layers:
            raise UserError(
                f"model={self.request.settings['model']['name']} has other layers than what is measured. "
                "Give the model that was compressed, as model=clip model.path=<directory>."
            )
        return dense

    def _passes(self, model: Adapter) -> dict[int, Callable[[], object]]:
        sizes = sorted({1, len(self.split)})
        return {size: partial(model.outputs, self._batch(model, size)) for size in sizes}

    def _batch(self, model: Adapter, size: int) -> dict[str, torch.Tensor]:
        part = self.split.take(size)
        return model.prepare(part.pictures(), part.texts or None)
