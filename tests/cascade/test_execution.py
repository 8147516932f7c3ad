"""A run of a cascade: its events in order, the disk it leaves, and what it does at a target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys.models import chain
from toys.stages import Cut, Erase, Noise, Thin

from rcc.cascade.bytes.budget import Target
from rcc.cascade.execution import Execution
from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.records import Observer
from rcc.cascade.schedule import Schedule
from rcc.cascade.state import StateStore
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage, StageContext, StageReport
from rcc.stages.dare.compressor import DARECompressor


class Heard(Observer):
    """Notes the events that happen, with the step they are about."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def run_started(self, steps, finished):
        self.events.append(f"run started at {finished} of {len(steps)}")

    def baseline_measured(self, baseline):
        self.events.append("baseline")

    def step_started(self, step, attempt, strength):
        self.events.append(f"{step.name} attempt {attempt}" + (f" at {strength:.3g}" if strength is not None else ""))

    def attempt_finished(self, step, attempt):
        self.events.append("failed" if attempt.problem else "passed")

    def step_finished(self, record):
        self.events.append(record.outcome)

    def round_repeated(self, steps, outcome):
        self.events.append("again: " + ", ".join(step.name for step in steps))


def nonzero_share(model: Adapter) -> float:
    weights = [unit.read().dense() for unit in model.units()]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def execution(
    stages: list[Stage], state: StateStore, gate: Gate | None = None, target: Target | None = None, rounds: int = 1
) -> Execution:
    for stage in stages:
        stage.labelled(stage.method)
    schedule = Schedule(rounds)
    solved = [stages[0]] if target else []
    return Execution(
        chain(), nonzero_share, None, stages, schedule, target, gate or Gate(), History(schedule.steps(stages, solved)),
        state, Heard(), 0, torch.float16, "none",
    )  # fmt: skip


def test_events_come_in_order_and_a_softened_step_is_told_attempt_by_attempt(tmp_path: Path) -> None:
    run = execution([Erase(0.06)], StateStore(tmp_path), Gate(0.95, tries=5))
    run.run(resume=False)
    assert isinstance(run.observer, Heard)
    assert run.observer.events == [
        "run started at 0 of 1", "baseline", "erase attempt 1 at 0.06", "failed", "skipped",
    ]  # fmt: skip
    assert nonzero_share(run.model) == 1
    assert run.history.seconds > 0


def test_a_stage_can_be_softened_while_its_strength_is_above_a_tenth(tmp_path: Path) -> None:
    run = execution([Erase(0.2)], StateStore(tmp_path), Gate(0.85, tries=5))
    run.run(resume=False)
    assert isinstance(run.observer, Heard)
    assert run.observer.events[2:] == [
        "erase attempt 1 at 0.2", "failed", "erase attempt 2 at 0.18", "failed", "erase attempt 3 at 0.162", "failed",
        "erase attempt 4 at 0.154", "failed", "erase attempt 5 at 0.146", "passed", "kept",
    ]  # fmt: skip
    assert nonzero_share(run.model) == pytest.approx(1 - 0.2 * 0.9 * 0.9 * 0.95 * 0.95, abs=1e-3)


def test_a_run_computes_with_weights_that_were_read_from_the_first_checkpoint(tmp_path: Path) -> None:
    seen = []

    class Look(Erase):
        def apply(self, model, context: StageContext) -> StageReport:
            seen.append(model.units()[0].read().sparse.data_ptr())
            return super().apply(model, context)

    run = execution([Look(0.01)], StateStore(tmp_path))
    before = run.model.units()[0].read().sparse
    assert before is not None
    run.run(resume=False)
    assert seen != [before.data_ptr()]


def test_it_resumes_after_the_last_step_that_is_whole(tmp_path: Path) -> None:
    stages: list[Stage] = [Noise(0.3)]
    whole = execution(stages, StateStore(tmp_path / "whole"), rounds=3)
    whole.run(resume=False)
    cut = execution(stages, StateStore(tmp_path / "cut", keep_last=9), rounds=3)
    cut.run(resume=False)
    cut.state.discard_after(1)
    resumed = execution(stages, StateStore(tmp_path / "cut"), rounds=3)
    resumed.run(resume=True)
    assert isinstance(resumed.observer, Heard)
    assert resumed.observer.events[:2] == ["run started at 1 of 3", "baseline"]
    assert len(resumed.observer.events) == 2 + 2 * 3
    one, other = whole.model.module.state_dict(), resumed.model.module.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_missed_target_does_the_last_round_again_from_its_checkpoint(tmp_path: Path) -> None:
    run = execution([Cut(), Thin()], StateStore(tmp_path, keep_last=1), Gate(1e-6), Target(5000))
    run.run(resume=False)
    assert isinstance(run.observer, Heard)
    again = run.observer.events.count("again: cut, thin")
    assert again >= 1
    assert run.history.target is not None
    assert run.history.target.repeats == again
    assert abs(run.history.target.reached - 5000) <= 50
    assert [record.step.index for record in run.history.records] == [1, 2]
    assert run.state.indices() == [0, 1, 2]


def test_without_a_target_there_is_none_in_the_history(tmp_path: Path) -> None:
    run = execution([Erase(0.01)], StateStore(tmp_path))
    run.run(resume=False)
    assert (run.budget, run.history.target) == (None, None)


def test_a_step_that_changes_nothing_is_unchanged_and_its_record_says_why(tmp_path: Path) -> None:
    run = execution([Erase(0)], StateStore(tmp_path))
    run.run(resume=False)
    (record,) = run.history.records
    assert (record.outcome, record.retention, len(record.attempts)) == ("unchanged", 1.0, 1)
    assert record.reason == "it came to the values that were there, in all 3 layers it touched"
    assert isinstance(run.observer, Heard)
    assert run.observer.events[-1] == "unchanged"
    recalled = History(run.history.steps)
    recalled.recall(StateStore(tmp_path).load(1, run.model))
    assert recalled.records == [record]


def test_the_record_of_a_step_has_every_layer_that_was_left_with_its_reason(tmp_path: Path) -> None:
    run = execution([DARECompressor(0.5, solver="none", allocation="uniform", exclude=["4"])], StateStore(tmp_path))
    run.model.module.register_module("recurrent", torch.nn.LSTM(4, 4))
    run.gate = Gate(0.1)
    run.run(resume=False)
    (record,) = run.history.records
    assert list(record.touched) == ["0", "2"]
    left = dict(record.skipped)
    assert left.keys() == {"4", "recurrent"}
    assert all(left.values())
    assert record.facts["matrix_values"] == {"touched": 2 * 48 * 64, "left": 48 * 32 + 2 * 16 * 4}
