"""Solve for the strengths of stages that meet a target in bytes.

A cascade that ends with a stage that can round to any size is filled by it, see `rcc.cascade.bytes.filling`. In others
the stages that have a strength share the way, by how much each harms the dense model's outputs; the last of them
balances. Strengths are solved for in every round. The bytes of the artifact are planned from counts (see `Stage.plan`)
and scaled by how far plans are off, which is measured: on the model as it is, rounded as a later stage would round it,
and after the last round on the artifact itself. Where that misses the target, the last round is done again with what
was found.

`demand`, `filled`, `verdict` and `alone` answer and change nothing; `accept`, `learn`, `note_trial`, `note_filled`,
`settle_pruning`, `measure_shares` and `recall` are what changes a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rcc.artifact.packing import Contents
from rcc.cascade.bytes.balance import (
    MEASURED,
    SPLITS,
    Balance,
    Solved,
    balancing,
    due_bytes,
    due_of_stage,
    solved_for,
)
from rcc.cascade.bytes.filling import Filling, filling, share_to_prune_to, target_problems
from rcc.cascade.bytes.forecast import Forecast, forecast
from rcc.cascade.bytes.last_round import SecantSearch, Trial
from rcc.cascade.bytes.shares import equal_shares, measured_shares
from rcc.cascade.records import Step, StepRecord, TargetOutcome
from rcc.errors import Problems, UserError, well_formed
from rcc.layers.model import Batch
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage

TOLERANCE = 0.01
"""The share of the target by which a run may miss it."""
REPEATS = 6
"""The most times that the last round is done again."""
UNSURE = 0.5
"""The factor by which planned least bytes may be off before anything was compressed."""
Overhead = Callable[[Adapter, Contents, Measurement], int]


@dataclass(frozen=True)
class Target:
    """Bytes that the whole artifact is to take on disk.

    `overhead(model, contents, baseline)` are those that are no data of weights, where `contents` tells how these were
    packed and `baseline` is what was measured on the dense model. `split`: whether all stages that have a strength
    share the way there ('measured'), or the last goes it and the others keep their strengths ('last').
    """

    nbytes: int
    overhead: Overhead = lambda model, contents, baseline: 0
    split: str = MEASURED

    def __post_init__(self) -> None:
        problems = Problems("target")
        whole = type(self.nbytes) is int and self.nbytes > 0
        problems.check(whole, f"the target is {self.nbytes} bytes; it must be a whole number above 0.")
        problems.choice("target_split", self.split, SPLITS)
        problems.done()

    def met_by(self, nbytes: int) -> bool:
        return abs(nbytes - self.nbytes) <= TOLERANCE * self.nbytes


@dataclass(frozen=True)
class Demand:
    """The strength that a target asks of one step, with what solving for it found.

    `due`: bytes that the artifact is to take after `round`. `solved`: the planned bytes at that strength, of the stage
    that balances; None for the others.
    """

    strength: float
    round: int
    due: float
    solved: Solved | None = None


@dataclass(frozen=True)
class Verdict:
    """The outcome of a target after the last step, and whether the last round is to be done again.

    `missed` is the trial to learn from; None where the target is met, or where no further trial would come nearer.
    `exhausted` says why, where the nearest trial is to be done once more. `recovered`: whether recovery came after.
    """

    outcome: TargetOutcome
    again: bool = False
    missed: Trial | None = None
    exhausted: str = ""
    recovered: bool = False


class Budget:
    """The strengths of one run on its way to a target. `shares`, by label, are alike until they are measured.

    Args:
        curve: of the schedule: how much of the way each round goes.
        dtype, entropy: how the artifact stores values.
        baseline: what was measured on the dense model; the manifest notes it, which takes bytes.

    Raises:
        UserError: no stage of the cascade has a strength.
    """

    def __init__(
        self,
        target: Target,
        stages: Sequence[Stage],
        curve: str,
        dtype: torch.dtype,
        entropy: str,
        baseline: Measurement,
    ) -> None:
        if problems := target_problems(stages):
            raise UserError(*problems)
        stage, filler = balancing(stages), filling(stages)
        self.filling = None if filler is None else Filling(filler)
        self.target, self.curve, self.dtype, self.entropy, self.baseline = target, curve, dtype, entropy, baseline
        self.stages = list(stages)
        self._balancing = stage
        self.solved = solved_for(self.stages, target.split)
        self.shares = equal_shares(self.solved)
        self._round_due: tuple[int, float] = (0, 0.0)
        self._solved: Solved | None = None
        self._search = SecantSearch(target.nbytes)

    @property
    def stage(self) -> Stage:
        """The stage that balances."""
        assert self._balancing is not None
        return self._balancing

    def check(self, model: Adapter) -> None:
        """Refuse, on the dense model, a target that no strength could meet by far.

        Raises:
            UserError: says what the least is, about.
        """
        if self.filling is not None:
            fixed = self._filled_with(model, self.filling)[1]
            if fixed >= self.target.nbytes:
                raise self._impossible(f"more than {fixed:,} bytes", fixed)
            return
        balance, ratio, fixed = self._outlook(self.stage, model)
        least = balance.solve(0.0).planned  # nothing is due: the strength with the fewest bytes
        if fixed + UNSURE * ratio * least > self.target.nbytes:
            raise self._impossible(f"about {fixed + ratio * least:,.0f} bytes", fixed)

    def alone(self, stage: Stage, rounds: int, model: Adapter) -> float:
        """The strength at which that stage would do the first round's part of the way without any other."""
        balance, ratio, fixed = self._outlook(stage, model)
        due = due_bytes(self.curve, 1, rounds, fixed + ratio * balance.nbytes(), self._wanted)
        return balance.solve(due, lambda planned: fixed + ratio * planned).strength

    def measure_shares(
        self,
        model: Adapter,
        rounds: int,
        batches: Sequence[Batch],
        apply: Callable[[Stage, float], None],
        restore: Callable[[], None],
    ) -> None:
        """Set each stage's share of the way from the harm it does alone, see `measured_shares`.

        Args:
            model: the dense model.
            apply: compresses it by a stage at a strength, in place.
            restore: makes it the dense model again.
        """

        def apply_alone(stage: Stage) -> None:
            apply(stage, self.alone(stage, rounds, model))

        self.shares = measured_shares(model, self.solved, batches, apply_alone, restore)

    def decides(self, step: Step) -> bool:
        """Whether the strength of that step is the target's to decide."""
        return step.label in self.shares

    def fills(self, step: Step) -> bool:
        """Whether that step is to come out at the target itself."""
        return self.filling is not None and step.label == self.filling.stage.label

    def filled(self, model: Adapter, growth: float = 1.0) -> tuple[Stage, int]:
        """The last stage, such that with it the artifact comes out at the target, or takes `growth` times the bytes of
        whole numbers that it should; and these bytes."""
        assert self.filling is not None
        made, fixed, whole, _ = self._filled_with(model, self.filling)
        due = round(growth * self.filling.due(made, whole, fixed, self.target.nbytes))
        return self.filling.stage.within(due), due

    def note_trial(self, model: Adapter) -> None:
        """Make up from now on for what the model, filled for trial, is off the target by."""
        assert self.filling is not None
        made, fixed = self._measured(model)
        self.filling.correction += self.target.nbytes + self.filling.saved - (made.matrices + fixed)

    def settle_pruning(self, model: Adapter) -> bool:
        """Note how far to prune the dense model before it is filled; False where the target leaves bits enough for
        every value, so that nothing is to be pruned."""
        assert self.filling is not None
        made, fixed, whole, values = self._filled_with(model, self.filling)
        left = share_to_prune_to(8 * self.filling.due(made, whole, fixed, self.target.nbytes) / max(1, values))
        # What no strength touches, as embeddings, is rounded all the coarser in the end: it asks for no more zeros.
        touched = {unit.name for stage in self.solved for unit in stage.choose(model)[0]}
        self.filling.pruned_to = fixed + made.matrices - (1 - left) * made.whole_of(touched)[0]
        return left < 1

    @property
    def _wanted(self) -> float:
        """Bytes that strengths are to come to."""
        if self.filling is not None and self.filling.pruned_to is not None:
            return self.filling.pruned_to
        return self.target.nbytes

    def _filled_with(self, model: Adapter, filling: Filling) -> tuple[Forecast, int, int, int]:
        """What the artifact would take if the last stage rounded all values alike: all of it, the bytes that are none
        of matrices, those of the whole numbers, and how many values these are."""
        made, whole, values = filling.forecast(model, self.dtype, self.entropy)
        return made, self._fixed(model, made), whole, values

    def _measured(self, model: Adapter) -> tuple[Forecast, int]:
        """What the artifact takes with the model as it is, exactly, and the bytes of it that are none of matrices."""
        made = forecast(model, (), self.dtype, self.entropy)
        return made, self._fixed(model, made)

    def _fixed(self, model: Adapter, made: Forecast) -> int:
        return made.rest + self.target.overhead(model, made.contents, self.baseline)

    def demand(self, step: Step, model: Adapter) -> Demand:
        """The strength at which the artifact is expected to take what is due after the step; where none is, the one
        at which it is expected to be smallest. To be accepted before the step is done."""
        stage = next(stage for stage in self.solved if stage.label == step.label)
        balance, ratio, fixed = self._outlook(stage, model)
        now = fixed + ratio * balance.nbytes()
        # What is due after a round is decided by its first stage: a later one finds a model that is smaller already.
        round_due = self._round_due[1]
        if self._round_due[0] != step.round:
            round_due = due_bytes(self.curve, step.round, step.rounds, now, self._wanted)
        due = due_of_stage(now, round_due, self.shares, step.label)
        if stage is not self.stage:
            solved = balance.solve(due, lambda planned: fixed + ratio * planned)
            return Demand(solved.strength, step.round, round_due)
        # Earlier rounds need not be exact, as later ones make up for them; the last is searched on measured sizes.
        last = step.round == step.rounds and self.filling is None
        strength = self._search.strength() if last else None
        if strength is not None:
            return Demand(strength, step.round, round_due, Solved(strength, balance.nbytes(strength), met=True))
        correct = self._search.correction() if last else None
        solved = balance.solve(due, correct or (lambda planned: fixed + ratio * planned))
        return Demand(solved.strength, step.round, round_due, solved)

    def accept(self, demand: Demand) -> None:
        """Take note of a demand whose step is about to be done."""
        self._round_due = demand.round, demand.due
        if demand.solved is not None:
            self._solved = demand.solved

    def first_repeated(self, steps: Sequence[Step]) -> int:
        """The number of steps before those that are done again where the target is missed: those up to the
        last one of the stage that balances."""
        balancing = self.filling.stage if self.filling is not None else self.stage
        return max(place for place, step in enumerate(steps) if step.label == balancing.label)

    def verdict(self, model: Adapter, last_round: Sequence[StepRecord]) -> Verdict:
        """Whether the last round, now done, must be done again, and what came of the target.

        Args:
            last_round: the records from the step that balances on.
        """
        made, fixed = self._measured(model)
        reached = made.matrices + fixed
        if self.filling is not None:
            return self._verdict_of_filling(self.filling, last_round, reached)
        outcome = TargetOutcome(self.target.nbytes, reached, self._search.repeats, self._search.exhausted)
        if outcome.reason or self.target.met_by(reached):
            return Verdict(outcome)
        reason = self._no_help(last_round, reached, fixed)
        if not reason:
            assert self._solved is not None
            missed = Trial(self._solved.strength, self._solved.planned, made.matrices, fixed)
            return Verdict(outcome, again=True, missed=missed)
        if self._search.has_nearer(reached):
            return Verdict(outcome, again=True, exhausted=reason)
        return Verdict(replace(outcome, reason=reason))

    def note_filled(self, verdict: Verdict) -> None:
        """Note what the artifact takes now that it is filled, before later steps change values."""
        assert self.filling is not None
        self.filling.filled = verdict.outcome.reached + self.filling.saved

    def learn(self, verdict: Verdict) -> None:
        """Note what the last round came out at, which is to be done again."""
        if self.filling is not None:
            self.filling.learn(self.target.nbytes, verdict.outcome.reached, verdict.recovered)
            return
        if verdict.missed is not None:
            self._search.add(verdict.missed)
        elif verdict.exhausted:
            self._search.end(verdict.exhausted)

    def _verdict_of_filling(self, filling: Filling, last_round: Sequence[StepRecord], reached: int) -> Verdict:
        recovered = len(last_round) > 1
        expected = reached if recovered else reached - filling.saved
        outcome = TargetOutcome(self.target.nbytes, expected, filling.repeats)
        if self.target.met_by(expected):
            return Verdict(outcome)
        reason = filling.no_help(last_round[0], finest=expected < self.target.nbytes)
        return Verdict(replace(outcome, reason=reason), again=not reason, recovered=recovered)

    def _no_help(self, last_round: Sequence[StepRecord], reached: int, fixed: int) -> str:
        """The reason for which doing the last round again would come no nearer; empty where it may."""
        # First what the gate did: of a step that it rolled back or softened, the bytes are not those of the strength
        # that was solved for, and a line through them would lead astray.
        for record in last_round:
            strengths = [attempt.strength for attempt in record.attempts]
            if record.outcome == "skipped":
                return f"{record.step.name} was rolled back: {record.attempts[-1].problem}"
            if len(set(strengths)) > 1:
                return f"the gate softened {record.step.name} from strength {strengths[0]:.3f} to {strengths[-1]:.3f}"
        solved = self._solved
        if solved is None:
            return f"{self.stage.who} was not asked for a strength"
        # Plans said so before the round too, but they may err; the artifact itself decides.
        if not solved.met and reached > self.target.nbytes:
            return self._least(f"{reached:,} bytes, at strength {solved.strength:.3f}", fixed)
        if solved.strength == 0 and reached < self.target.nbytes:
            return f"the model is smaller already at the least strength of {self.stage.who} in the last round, 0"
        # The same plan would make the same layers: there is nothing new to learn from it.
        if any(solved.planned == trial.planned for trial in self._search.trials):
            return f"the sizes that {self.stage.who} can give come in steps, and it found none nearer"
        if len(self._search.trials) >= REPEATS:
            return f"the last round was done {REPEATS + 1} times and came no nearer"
        return ""

    def _impossible(self, least: str, fixed: float) -> UserError:
        return UserError(f"a target of {self.target.nbytes:,} bytes cannot be met: {self._least(least, fixed)}.")

    def _least(self, least: str, fixed: float) -> str:
        stage = self.stage if self.filling is None else self.filling.stage
        return (
            f"the least that {stage.who} reaches is {least}, of which {fixed:,.0f} are files, norms and biases. Ask for"
            " more bytes, write one file (export.container=file), let stages take more units (their roles), or end the"
            " cascade with quant"
        )

    def _outlook(self, stage: Stage, model: Adapter) -> tuple[Balance, float, int]:
        """Plans of the model as it is, packed over planned bytes of its matrices, and the bytes of all else."""
        balance = Balance.of(model, self.stages, stage, self.solved, self.dtype.itemsize)
        # Counts know neither entropy coding nor how well values of this model compress: packing it once tells by what
        # factor plans are off, and that factor changes little with the strength.
        later = [(stage, set(balance.chosen[stage.label])) for stage in balance.later]
        expected = forecast(model, later, self.dtype, self.entropy)
        fixed = self._fixed(model, expected)
        return balance, expected.matrices / max(1.0, balance.nbytes()), fixed

    def to_json(self) -> dict[str, Any]:
        """The state with which a resumed run decides as this one would."""
        solved = self._solved
        return {
            "target": self.target.nbytes,
            "shares": self.shares,
            "round_due": list(self._round_due),
            "solved": None if solved is None else [solved.strength, solved.planned, solved.met],
            "search": self._search.to_json(),
            "filling": None if self.filling is None else self.filling.to_json(),
        }

    def recall(self, data: Mapping[str, Any]) -> None:
        """Restore what `to_json` gave.

        Raises:
            UserError: it was on its way to another target, or is damaged.
        """
        with well_formed("the state of the way to the target", "Start a fresh run."):
            if data["target"] != self.target.nbytes:
                raise UserError(
                    f"this state belongs to a run to {data['target']:,} bytes, this one is to take"
                    f" {self.target.nbytes:,}. Resume with the target the run was started with, or start afresh."
                )
            # In the order of the stages, which `due_of_stage` goes by.
            self.shares = {stage.label: data["shares"][stage.label] for stage in self.solved}
            self._round_due = data["round_due"][0], data["round_due"][1]
            self._solved = None if data["solved"] is None else Solved(*data["solved"])
            self._search.recall(data["search"])
            if self.filling is not None:
                self.filling.recall(data["filling"])
