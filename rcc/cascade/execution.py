"""Run a cascade over one model: the dense baseline, every step with its attempts, and the last round again where a
target in bytes asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from rcc.analysis.overlap import overlap, row_spaces
from rcc.artifact.contents import checksum
from rcc.cascade.abandonment import Question, refuse_hopeless
from rcc.cascade.attempt import Validator, attempt_step, measure_dense, refuse_non_finite, score_of, step_seed
from rcc.cascade.bytes.budget import Budget, Target, Verdict
from rcc.cascade.bytes.filling import GROWTH, OFF, starts_round, why_left_out
from rcc.cascade.bytes.shares import distance
from rcc.cascade.configuration import described, refuse_another, with_weights
from rcc.cascade.deferral import recovery_follows, refusal_after, refused_attempts
from rcc.cascade.gate import Gate
from rcc.cascade.history import History
from rcc.cascade.preparation import prepare
from rcc.cascade.records import DEFERRED, LEFT_OUT, UNREACHED, Attempt, Observer, Step, StepRecord
from rcc.cascade.schedule import Schedule
from rcc.cascade.state import StateStore
from rcc.errors import UserError, WorkError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.stages.base import CODED, Stage, StageContext, TrainingData


@dataclass
class Execution:
    """One run of a cascade over `model`, which it changes in place. `history` and `state` are where it stands.

    `dtype` and `entropy` are how bytes are counted; `seed` is what the random choices of every step are derived from.
    `fold`: whether the dense model is rewritten first, see `rcc.cascade.preparation`. `abandon`: see `RCCPipeline`.
    """

    model: Adapter
    validator: Validator
    calibration: Sequence[Batch] | None
    stages: Sequence[Stage]
    schedule: Schedule
    target: Target | None
    gate: Gate
    history: History
    state: StateStore
    observer: Observer
    seed: int
    dtype: torch.dtype
    entropy: str
    fold: bool = True
    training: TrainingData | None = None
    abandon: Question | None = None
    budget: Budget | None = field(init=False, default=None)
    context: StageContext = field(init=False)

    def run(self, resume: bool) -> None:
        """Run every step that is not done yet, and the last round again until the target is met or given up."""
        started = time.perf_counter()
        self._start(resume)
        self._do_remaining()
        while (verdict := self._verdict()) is not None and verdict.again:
            self._repeat_last_round(verdict)
            self._do_remaining()
        self.history.target = None if verdict is None else verdict.outcome
        self.history.seconds = time.perf_counter() - started

    def _start(self, resume: bool) -> None:
        """Measure the dense model, or recall where an earlier attempt stood."""
        if self.target is not None:  # it may send the run back to before its last round, which must be there then
            self.state.keep_last = max(self.state.keep_last, len(self.history.steps) + 1)
        elif any(stage.keeps_form for stage in self.stages):  # before the last step, where that is not recovered enough
            self.state.keep_last = max(self.state.keep_last, 2)
        self.state.open(resume)
        finished = self.state.latest()
        self._describe(None if finished is None else self.state.record(finished).get("description", {}))
        self.observer.run_started(self.history.steps, finished or 0)
        if finished is None:
            self.history.baseline = self.gate.admit(measure_dense(self.model, self.validator, self.dtype))
            if self.fold:  # measured as it came; from here on the dense model is the one that stages are given
                prepared = prepare(self.model, self.calibration)
                self.history.baseline = replace(self.history.baseline, prepared=prepared)
            self._save("initial")
            # A resumed run computes with weights read from a checkpoint, so this one does too: mapped from a foreign
            # file they can lie unaligned in memory, and then sums come out in another order.
            self._restore_dense()
        else:
            if 0 not in self.state.indices():
                raise UserError(f"{self.state.directory} has lost its first step, the dense model: start a fresh run.")
            self.history.recall(self.state.load(finished, self.model.eval()))
            self.history.refused = [Attempt.from_json(attempt) for attempt in self.state.refused(finished)]
        self.observer.baseline_measured(self.history.dense)
        self._open_context()
        self._open_budget()

    def _describe(self, recorded: Mapping[str, Any] | None) -> None:
        """Note what decides the result; where it is recorded already, it must be the same."""
        found = described(
            self.model, self.stages, self.schedule, self.gate, self.target, self.calibration,
            seed=self.seed, storage_dtype=str(self.dtype), storage_entropy=self.entropy, fold=self.fold,
        )  # fmt: skip
        self.history.description = with_weights(found, self.model.module, resumed=recorded is not None)
        if recorded is not None:
            refuse_another(recorded, self.history.description, self.state.directory)

    def _open_context(self) -> None:
        targets = None
        if self.calibration is not None and any(stage.needs_targets for stage in self.stages):
            targets = self.state.dense_targets(self.model, self.calibration)
        state, model = self.state, self.model  # a closure over self would be a cycle, which keeps all this in memory
        self.context = StageContext(
            calibration=self.calibration,
            targets=targets,
            reference=lambda name: state.reference(name, model.module.get_submodule(name)),
            dense=lambda: state.dense(model),
            storage=self.dtype,
            training=self.training,
            score=partial(score_of, self.model, self.validator),
            progress=self.observer.progressed,
        )

    def _open_budget(self) -> None:
        if self.target is None:
            return
        baseline = self.history.dense.measurement
        self.budget = Budget(self.target, self.stages, self.schedule.curve, self.dtype, self.entropy, baseline)
        if self.history.budget is not None:
            self.budget.recall(self.history.budget)
        elif not self.history.records:
            self.budget.check(self.model)
            if len(self.budget.solved) > 1 and self.calibration:
                self._measure_shares(self.budget, self.calibration)

    def _measure_shares(self, budget: Budget, calibration: Sequence[Batch]) -> None:
        """Find each stage's share of the way to the target by applying it alone to the dense model."""
        context = self._context_of_trials()

        def apply(stage: Stage, strength: float) -> None:
            stage.at(strength).apply(self.model, context)
            refuse_non_finite(self.model, f"{stage.who}, tried alone at strength {strength:.3f}, left")

        budget.measure_shares(self.model, self.schedule.rounds, calibration, apply, self._restore_dense)
        self.observer.target_shared(budget.shares)

    def _context_of_trials(self) -> StageContext:
        """What stages are given that are tried outside of the steps: the seed is of a step that no run has."""
        step = Step(index=0, round=1, rounds=self.schedule.rounds, label="", method="", strength=None)
        return replace(self.context, seed=step_seed(self.seed, step, 1))

    def _context_of(self, step: Step, number: int, before: str) -> StageContext:
        """What a stage is given for that attempt of a step, on the model of that checksum."""
        seed = step_seed(self.seed, step, number)
        return replace(self.context, seed=seed, scratch=self.state.scratch(seed, before))

    def _do_remaining(self) -> None:
        """Run every step that is not done yet, with a checkpoint after each."""
        while steps := self.history.remaining():
            refuse_hopeless(self.abandon, self.history.records)
            step = steps[0]
            if self._weighs_rounds() and not self._is_to_be_done(step):
                self._leave_out_rounds()
                continue
            if self._is_filled_again():
                continue
            record = self._do_step(step, self._stage_of(step))
            if refusal := refusal_after(self.history, self.gate, record):
                self._do_softer(record, refusal)
                continue
            self._add(record)
            self._save(step.label)
            self.observer.step_finished(record)

    def _is_filled_again(self) -> bool:
        """Settle what recovery starts from before it, which costs more than all else; a resumed run asks this too."""
        if (budget := self.budget) is None or not (done := self.history.records) or not budget.fills(done[-1].step):
            return False
        verdict = budget.verdict(self.model, done[-1:])
        (self._repeat_last_round if verdict.again else budget.note_filled)(verdict)
        return verdict.again

    def _add(self, record: StepRecord) -> None:
        self.history.add(record, None if self.budget is None else self.budget.to_json())

    def _stage_of(self, step: Step) -> Stage:
        """The stage at the strength that its step is to have."""
        stage, strength = next(stage for stage in self.stages if stage.label == step.label), step.strength
        if self.budget is not None and self.budget.fills(step):
            return self.budget.filled(self.model)[0]
        if self.budget is not None and self.budget.decides(step):
            demand = self.budget.demand(step, self.model)
            self.budget.accept(demand)
            strength = demand.strength
        return stage if strength in (None, stage.strength) else stage.at(strength)

    def _weighs_rounds(self) -> bool:
        """Whether the number of rounds is open: rounding alone may be the best way to the target."""
        budget = self.budget
        return budget is not None and budget.filling is not None and bool(budget.solved) and bool(self.calibration)

    def _is_to_be_done(self, step: Step) -> bool:
        """Whether the next step is worth doing; asked at the start of each round, and before the target is filled."""
        assert self.budget is not None
        filling, place = self.budget.filling, len(self.history.records)
        assert filling is not None
        if not (starts_round(self.history.steps, place) or self.budget.fills(step)):
            return True
        if place not in filling.weighed and not self.history.was_left_out(place):
            if place == 0 and not self.budget.settle_pruning(self.model):
                filling.weighed[place] = 0.0
            else:
                filling.weighed[place] = self._distance_at_target()
                self.observer.round_weighed(place, filling.weighed[place], filling.best)
        enough = filling.weighed.get(place) == 0.0 or (place in filling.weighed and filling.is_worse(place))
        if self.budget.fills(step):
            return self.history.was_left_out(place) or filling.best == place
        return not enough

    def _distance_at_target(self) -> float:
        """How far the outputs are from the dense model's with the model as it is rounded to the target."""
        assert self.budget is not None
        assert self.calibration is not None
        targets = self.state.dense_targets(self.model, self.calibration)
        stage, due = self.budget.filled(self.model)
        taken = stage.apply(self.model, self._context_of_trials()).facts[CODED]
        found = UNREACHED * taken / due
        if taken <= (1 + OFF) * due:
            found = distance(self.model, self.calibration, targets)
            self.budget.note_trial(self.model)
        self._restore_step()
        return found

    def _leave_out_rounds(self) -> None:
        """Go back to where the model came out best at the target, and note the steps up to the last as left out."""
        assert self.budget is not None
        assert self.budget.filling is not None
        filling, found = self.budget.filling, dict(self.budget.filling.weighed)
        if (best := filling.best) < len(self.history.records):
            self.history.recall(self.state.load(best, self.model))
            self.state.discard_after(best)
        left = self.history.steps[len(self.history.records) : self.budget.first_repeated(self.history.steps)]
        records = [self.history.left_out(step, why_left_out(found, best)) for step in left]
        for record in records:
            self._add(record)
        self._save(LEFT_OUT)
        for record in records:
            self.observer.step_finished(record)

    def _do_step(self, step: Step, stage: Stage) -> StepRecord:
        """Attempt a step until it passes, cannot be softened further, or the tries are used up."""
        spaces = row_spaces(self.model.units())
        before = checksum(self.model.module)
        attempts: list[Attempt] = []
        for refused in self.history.refused:
            attempts.append(refused)
            softer = self._softer(step, stage, refused) if len(attempts) <= self.gate.tries else None
            if softer is None:
                return self.history.rolled_back(step, attempts)
            stage = softer
        while True:
            number = len(attempts) + 1
            self.observer.step_started(step, number, stage.strength)
            attempt, report = attempt_step(
                number,
                stage,
                self._context_of(step, number, before),
                self.model,
                self.validator,
                self.history.dense,
                self.gate,
                self.dtype,
                self.entropy,
                before,
            )
            attempts.append(attempt)
            self.observer.attempt_finished(step, attempt)
            if report is not None and not attempt.problem:
                outcome = "unchanged" if report.unchanged else "kept"
                break
            if report is not None and recovery_follows(self.history, self.stages, self.gate):
                outcome = DEFERRED
                break
            # Without a report the stage broke off half-way: a softer one would break likewise, on a broken model.
            last = report is None or len(attempts) > self.gate.tries or not self.gate.rollback
            softer = None if last else self._softer(step, stage, attempt)
            if softer is None:
                outcome = self._outcome_of_failure(step, attempt, broken=report is None)
                break
            stage = softer
        if outcome == "skipped":
            self._restore_step()
            return self.history.rolled_back(step, attempts)
        assert report is not None
        assert attempt.size is not None
        assert attempt.measurement is not None
        assert attempt.retention is not None
        return StepRecord(
            step=step,
            outcome=outcome,
            attempts=tuple(attempts),
            size=attempt.size,
            retention=attempt.retention,
            measurement=attempt.measurement,
            touched=report.touched,
            skipped=tuple((skipped.name, skipped.reason) for skipped in report.skipped),
            facts=report.facts,
            overlap=overlap(spaces, row_spaces(self.model.units()), self._projected_before(stage)),
            reason=attempt.problem if outcome == DEFERRED else report.unchanged,
            interval=attempt.interval,
        )

    def _do_softer(self, record: StepRecord, refusal: str) -> None:
        """Go back to before the last step, which the one of `record` did not recover enough, for its next attempt.

        Raises:
            WorkError: the gate ends the run instead.
        """
        refused = refused_attempts(self.history, record, refusal)
        if self.gate.on_failure == "abort":
            self._outcome_of_failure(self.history.records[-1].step, refused[-1], broken=False)
        self.observer.step_refused(self.history.records[-1].step, refused[-1])
        place = len(self.history.records) - 1
        self.history.recall(self.state.load(place, self.model))
        self.state.discard_after(place)
        self.history.refused = refused
        self.state.note_refused(place, [asdict(attempt) for attempt in refused])

    def _projected_before(self, stage: Stage) -> list[str]:
        """The units whose subspace a stage chooses after another one did."""
        labels = [each.label for each in self.stages if each.projects]
        by = self.history.projected_by(labels) if stage.projects else {}
        return [name for name, label in by.items() if label != stage.label]

    def _softer(self, step: Step, stage: Stage, failed: Attempt) -> Stage | None:
        """The stage for the next attempt, with the model made the one before the step again; or None, with the model as
        the last attempt left it."""
        if self.budget is not None and self.budget.fills(step):
            if failed.number > len(GROWTH):
                return None
            self._restore_step()
            return self.budget.filled(self.model, GROWTH[failed.number - 1])[0]
        judged, least = self.gate.judged(failed.retention or 0.0, failed.interval), self.history.reached(step.label)
        softer = stage.softer(lambda strength: self.gate.softer(strength, judged, least))
        if softer is not None:
            self._restore_step()
        return softer

    def _outcome_of_failure(self, step: Step, attempt: Attempt, broken: bool) -> str:
        """'skipped' or 'continued', for a step that failed for good.

        Raises:
            WorkError: the gate ends the run instead.
        """
        abort = self.gate.on_error == "abort" if broken else self.gate.on_failure == "abort"
        if abort:
            setting = "gate.on_error" if broken else "gate.on_failure"
            raise WorkError(
                f"{step.name}: {attempt.problem} (attempt {attempt.number}). The run ends because {setting} is "
                f"'abort'; {setting}=skip would roll the step back and go on. Finished steps are kept."
            )
        if broken:
            return "skipped"
        return "continued" if self.gate.on_failure == "continue" or not self.gate.rollback else "skipped"

    def _verdict(self) -> Verdict | None:
        """The outcome of the target, now that every step is done; None where there is none."""
        if self.budget is None:
            return None
        return self.budget.verdict(self.model, self.history.records[self.budget.first_repeated(self.history.steps) :])

    def _repeat_last_round(self, verdict: Verdict) -> None:
        """Go back to before the step whose strength the target decides, in the last round."""
        assert self.budget is not None
        self.budget.learn(verdict)
        before = self.budget.first_repeated(self.history.steps)
        self.observer.round_repeated(self.history.steps[before:], verdict.outcome)
        self.history.recall(self.state.load(before, self.model))
        self.state.discard_after(before)

    def _save(self, label: str) -> None:
        """Write model, history and random states as one atomic checkpoint.

        Of the steps that pass the gate, the smallest is the best, and is kept whatever comes after.
        """
        last = self.history.records[-1] if self.history.records else None
        passes = last is not None and not self.gate.problem(last.retention, last.interval)
        score = -float(last.size.nbytes) if last and passes else float("-inf")
        self.state.save(len(self.history.records), label, self.model, self.history.to_json(), score)

    def _restore_step(self) -> None:
        """Make the model the one after the last finished step again."""
        self.state.load(len(self.history.records), self.model)

    def _restore_dense(self) -> None:
        self.state.load(0, self.model)
