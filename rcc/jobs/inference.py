"""runtime=…: a loaded model made fast on this machine, and what was picked for it."""

from __future__ import annotations

from rich.console import Console as Terminal

from rcc.data.loading import batch_of
from rcc.data.splits import Split
from rcc.models.adapter import Adapter
from rcc.reporting.drawing import draw, say
from rcc.reporting.inference import runtime_lines, runtime_table
from rcc.runtime.optimise import optimise
from rcc.runtime.records import RuntimePlan

LARGEST_BATCH = 32


def speed_up(model: Adapter, choice: str, split: Split, terminal: Terminal) -> RuntimePlan:
    """Choose kernels as `runtime=` asks, on up to 32 items of `split`, put them in place, and say what was picked."""
    plan = optimise(model, batch_of(model, split, stop=LARGEST_BATCH), choice)
    for line in runtime_lines(plan):
        say(terminal, line)
    draw(terminal, runtime_table(plan))
    return plan
