"""dry_run=true: what the cascade would do, from the model's shapes alone, and whether one batch goes through it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rcc.cascade.bytes.budget import Target
from rcc.jobs.compression import Compression, is_targeted
from rcc.jobs.source import plan_source
from rcc.jobs.target import target_of
from rcc.jobs.trial_batch import trial_batch
from rcc.models.adapter import Adapter
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.plan import plan_skips, plan_steps, plan_units, telling_steps
from rcc.reporting.reach import reach_table, reach_text
from rcc.reporting.target import planned_target_text

WIDTH = 160  # of what is not a terminal: a plan in a file is searched, not looked at


def show_plan(job: Compression) -> None:
    """Print order, budgets, units, expected bytes and what of them can be touched, and put one batch through the model;
    writes nothing.

    Raises:
        UserError: as the loaders, or the batch does not go through; after the plan was printed.
    """
    skeleton = plan_source(job.settings["model"])
    target = _target(job, skeleton)
    plan = job.pipeline(target=target).plan(skeleton)
    terminal = Terminal(highlight=False)
    if not terminal.is_terminal:
        terminal.width = WIDTH
    for planned in telling_steps(plan):
        say(terminal, f"{planned.step.name}: {len(planned.before)} units")
        draw(terminal, plan_units(planned, plan.itemsize))
    skips = plan_skips(plan)
    if skips.rows:
        say(terminal, "Left alone:")
        draw(terminal, skips)
    say(terminal, f"Plan, with values stored as {job.dtype}:")
    draw(terminal, plan_steps(plan))
    if plan.target is not None:
        say(terminal, planned_target_text(plan))
    say(terminal, reach_text(plan))
    untouched = reach_table(plan, skeleton.default_roles)
    if untouched.rows:
        draw(terminal, untouched)
    say(terminal, trial_batch(job))
    sure = "" if job.gate.confidence is None else f", at {job.gate.confidence:.0%} confidence,"
    say(
        terminal,
        f"The gate asks for {job.gate.threshold:.1%} of the dense model after every step{sure} and allows "
        f"{job.gate.tries} softer attempts; a step that fails is then handled as '{job.gate.on_failure}'. "
        "Bytes are of the weights, if every step passes at once. Nothing was written; leave out dry_run=true to run.",
    )


def _target(job: Compression, skeleton: Adapter) -> Target | None:
    """The target of the run, None where it has none. The model's small files, whose bytes count, are measured in a
    folder for files of a moment."""
    if not is_targeted(job.settings):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return target_of(job.settings, job.published, skeleton, Path(scratch))
