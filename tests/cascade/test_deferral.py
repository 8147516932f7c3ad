"""Deferred judgement: a step that fails the gate is judged after the recovery that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from toys.models import chain
from toys.stages import Erase

from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.records import DEFERRED, RECOVERED, Observer
from rcc.errors import WorkError
from rcc.layers.model import Model
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage, StageContext, StageReport


class Fill(Stage):
    """Fills a share of the zeros with ones: a recovery whose success is known."""

    method: ClassVar[str] = "fill"
    keeps_form: ClassVar[bool] = True
    strength: ClassVar[float | None] = None  # type: ignore[assignment]

    def __init__(self, share: float) -> None:
        self.share = share

    def at(self, strength: float) -> Any:
        raise NotImplementedError

    def plan(self, units: Any, itemsize: int) -> Any:
        return list(units)

    def apply(self, model: Model, context: StageContext) -> StageReport:
        report = StageReport()
        with torch.no_grad():
            for unit in model.units():
                form = unit.read()
                assert form.sparse is not None
                empty = (form.sparse == 0).flatten().nonzero().flatten()
                form.sparse.view(-1)[empty[: round(self.share * len(empty))]] = 1.0
                unit.write(form)
                report.touched[unit.name] = {}
        return report


class Killed(Fill):
    """Ends the process where it would begin."""

    def apply(self, model: Model, context: StageContext) -> StageReport:
        raise KeyboardInterrupt


def nonzero_share(model: Adapter) -> float:
    weights = [unit.read().dense() for unit in model.units()]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def run(tmp_path: Path, *stages: Stage, resume: bool = False, **options: Any) -> RCCPipeline:
    pipeline = RCCPipeline(stages, performance_threshold=0.9, directory=tmp_path, **options)
    pipeline.run(chain(), nonzero_share, resume=resume)
    return pipeline


def test_a_step_that_is_recovered_is_kept_with_what_it_lost_before(tmp_path: Path) -> None:
    pipeline = run(tmp_path, Erase(0.3), Fill(0.8))
    first, second = pipeline.history.records
    assert (first.outcome, second.outcome) == (RECOVERED, "kept")
    assert first.retention == pytest.approx(0.7, abs=0.01)
    assert "70." in first.reason
    assert second.retention == pytest.approx(0.94, abs=0.01)
    assert pipeline.state.names() == {0: "initial", 1: "erase", 2: "fill"}


def test_one_that_is_not_recovered_enough_is_done_softer_and_recovered_again(tmp_path: Path) -> None:
    told: list[str] = []

    class Heard(Observer):
        def step_finished(self, record: Any) -> None:
            told.append(f"{record.step.label} {record.outcome}")

        def step_refused(self, step: Any, attempt: Any) -> None:
            told.append(f"{step.label} {attempt.number} undone")

        def attempt_finished(self, step: Any, attempt: Any) -> None:
            told.append(f"{step.label} {attempt.number} {'failed' if attempt.problem else 'passed'}")

    pipeline = run(tmp_path, Erase(0.3), Fill(0.6), observer=Heard())
    first, second = pipeline.history.records
    assert [attempt.strength for attempt in first.attempts] == pytest.approx([0.3, 0.27, 0.2565, 0.243675])
    assert [bool(attempt.problem) for attempt in first.attempts] == [True] * 4
    assert "after fill" in first.attempts[0].problem
    assert first.attempts[0].retention == pytest.approx(0.88, abs=0.01)
    assert (first.outcome, second.outcome) == (RECOVERED, "kept")
    assert second.retention == pytest.approx(1 - 0.4 * 0.243675, abs=0.01)
    assert told[:4] == ["erase 1 failed", "erase deferred", "fill 1 failed", "erase 1 undone"]
    assert told[-4:] == ["erase 4 failed", "erase deferred", "fill 1 passed", "fill kept"]


def test_after_the_last_try_both_are_undone(tmp_path: Path) -> None:
    pipeline = run(tmp_path, Erase(0.6), Fill(0.1), tries=1)
    first, second = pipeline.history.records
    assert (first.outcome, len(first.attempts)) == ("skipped", 2)
    assert second.outcome == "unchanged"
    assert pipeline.model is not None
    assert nonzero_share(pipeline.model) == 1.0


def test_a_gate_that_aborts_does_so_once_recovery_has_failed(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="fill: kept 46"):
        run(tmp_path, Erase(0.6), Fill(0.1), on_failure="abort")
    assert run(tmp_path / "b", Erase(0.3), Fill(0.8), on_failure="abort").history.records[0].outcome == RECOVERED


@pytest.mark.parametrize("options", [{"on_failure": "continue"}, {"rollback_enabled": False}])
def test_where_nothing_is_undone_nothing_is_deferred(tmp_path: Path, options: dict[str, Any]) -> None:
    assert run(tmp_path, Erase(0.3), Fill(0.1), **options).history.records[0].outcome == "continued"


def test_a_run_that_is_killed_between_the_two_goes_on_to_the_same_model(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Erase(0.3), Fill(0.6))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Erase(0.3), Killed(0.6))
    again = RCCPipeline([Erase(0.3), Fill(0.6)], performance_threshold=0.9, directory=tmp_path / "cut")
    again.run(chain(), nonzero_share, resume=True)
    for one, other in zip(whole.history.records, again.history.records, strict=True):
        assert (one.outcome, len(one.attempts), one.retention) == (other.outcome, len(other.attempts), other.retention)


def test_a_deferred_step_is_none_that_passed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Erase(0.3), Killed(0.6))
    stopped = RCCPipeline([Erase(0.3), Fill(0.6)], performance_threshold=0.9, directory=tmp_path)
    (record,) = stopped.state.record(1)["records"]
    assert record["outcome"] == DEFERRED
