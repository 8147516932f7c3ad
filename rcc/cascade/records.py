"""Define the records of a run: the planned steps, what each attempt of each step gave, and the summary of all.

They are plain data, written to state, metrics and reports as JSON and read back on resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rcc.layers.form import Size
from rcc.measurement import Interval, Measurement
from rcc.stages.base import CHOSEN

FOLDED, CANONICAL, KEYS, VALUES = "norms_folded", "norms_made_canonical", "key_biases_dropped", "value_biases_moved"
"""What may be rewritten of the dense model before the first stage: the names in `Baseline.prepared`."""


@dataclass(frozen=True)
class Step:
    """One stage in one round. `index` counts from 1; step 0 is the dense model. `option` is the setting
    that holds the strength, such as 'stage.dare.target_sparsity'; empty where a stage has none, and where the strength
    is None because a target in bytes decides it."""

    index: int
    round: int
    rounds: int
    label: str
    method: str
    strength: float | None
    option: str = ""

    @property
    def name(self) -> str:
        """'dare', or 'dare (round 2 of 3)' when there are several."""
        return self.label if self.rounds == 1 else f"{self.label} (round {self.round} of {self.rounds})"


@dataclass(frozen=True)
class Attempt:
    """One try of a step at one strength. `problem` says why it did not pass; empty when it did. `interval` is that of
    the retention, None where the metric is no mean over items."""

    number: int
    strength: float | None
    seconds: float
    peak_bytes: int
    size: Size | None = None
    measurement: Measurement | None = None
    retention: float | None = None
    problem: str = ""
    interval: Interval | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Attempt:
        size, measurement = data["size"], data["measurement"]
        return cls(
            **{
                **data,
                "size": None if size is None else Size(**size),
                "measurement": None if measurement is None else Measurement.from_json(measurement),
                "interval": _interval(data),
            }
        )


LEFT_OUT = "left_out"
"""The outcome of a step that was not done, since a target is met better without it."""
DEFERRED, RECOVERED = "deferred", "recovered"
"""The outcomes of a step that failed the gate and is followed by one that gives back what was lost: it is judged after
that one, and had passed then."""
UNREACHED = 10.0
"""What stands for a distance of outputs, which is 2 at most, where rounding does not come down to the target: times how
many times too many bytes its coarsest steps take, so that the fewest count as nearest."""
PASSED = ("kept", "unchanged", RECOVERED)
"""The outcomes of steps that are within the gate."""
LEFT = (*PASSED, DEFERRED, "continued")
"""The outcomes of steps whose model went on."""


@dataclass(frozen=True)
class StepRecord:
    """A finished step. `outcome`: 'kept' (passed the gate), 'continued' (failed it and was kept as
    configured), 'skipped' (rolled back), 'unchanged' (left every value of the model as it was, for the `reason`),
    'left_out' (was not done, for the `reason`), 'deferred' (failed the gate, for the `reason`, and is judged after the
    next step), 'recovered' (failed it and passed after the next step). The numbers are those of the model after the
    step, `interval` that of its retention."""

    step: Step
    outcome: str
    attempts: tuple[Attempt, ...]
    size: Size
    retention: float
    measurement: Measurement
    touched: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    overlap: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    interval: Interval | None = None

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for attempt in self.attempts)

    @property
    def peak_bytes(self) -> int:
        return max((attempt.peak_bytes for attempt in self.attempts), default=0)

    @property
    def chosen(self) -> str:
        """The values of the stage's options at 'auto', as 'solver=admm, allocation=sensitivity'; empty without any."""
        return ", ".join(f"{name}={value}" for name, value in self.facts.get(CHOSEN, {}).items())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StepRecord:
        attempts = tuple(Attempt.from_json(item) for item in data["attempts"])
        return cls(
            **{
                **data,
                "step": Step(**data["step"]),
                "attempts": attempts,
                "size": Size(**data["size"]),
                "measurement": Measurement.from_json(data["measurement"]),
                "skipped": tuple((name, reason) for name, reason in data["skipped"]),
                "interval": _interval(data),
            }
        )


def _interval(data: Mapping[str, Any]) -> Interval | None:
    """That of a record; None where it was made before there were any."""
    found = data.get("interval")
    return None if found is None else Interval(**found)


@dataclass(frozen=True)
class Baseline:
    """The dense model before the first stage, on the selection split.

    Attributes:
        items: what each item adds to the primary metric, their mean; empty where it is no such mean.
        note: what the gate has to say before it starts; empty where it has nothing.
        prepared: what was then rewritten of it, exactly, see `rcc.cascade.preparation`.
    """

    measurement: Measurement
    size: Size
    seconds: float = 0.0
    items: tuple[float, ...] = ()
    note: str = ""
    prepared: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Baseline:
        """From `asdict`, also of an earlier run, which had neither items nor a note, and was not prepared."""
        measurement, size = Measurement.from_json(data["measurement"]), Size(**data["size"])
        items, note = tuple(data.get("items", ())), data.get("note", "")
        return cls(measurement, size, data["seconds"], items, note, data.get("prepared", {}))


@dataclass(frozen=True)
class TargetOutcome:
    """A target in bytes, and what the artifact comes to after the last step. `repeats`: how often the last round was
    done again. `reason`: why the target is missed; empty where it is met, or the round is to be done again."""

    nbytes: int
    reached: int
    repeats: int
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """The whole run: the dense baseline, every step, and suggestions that follow from the numbers."""

    baseline: Baseline
    records: tuple[StepRecord, ...]
    size: Size
    retention: float
    seconds: float
    suggestions: tuple[str, ...] = ()
    overlap: dict[str, Any] = field(default_factory=dict)
    target: TargetOutcome | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Observer(Protocol):
    """Receives the events of a run: the console, the metrics log, W&B. An observer never changes a run.

    Does nothing by itself: a subclass takes up the events it cares about.
    """

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        """The plan of the run, of which the first `finished` steps were done by an earlier attempt."""
        return None

    def baseline_measured(self, baseline: Baseline) -> None:
        return None

    def target_shared(self, shares: Mapping[str, float]) -> None:
        """Of the way to a target in bytes, what share each of several stages was found to be worth, by label."""
        return None

    def round_weighed(self, done: int, distance: float, best: int) -> None:
        """After `done` steps the model was rounded to the target for trial, and its outputs came out at `distance` from
        the dense model's, 1 − cos; `best` is after how many steps it was least so far."""
        return None

    def step_started(self, step: Step, attempt: int, strength: float | None) -> None:
        return None

    def progressed(self, done: int, total: int, what: str) -> None:
        """Within the current attempt: `done` of `total` pieces of work, and what they are ('layers')."""
        return None

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        return None

    def step_finished(self, record: StepRecord) -> None:
        return None

    def step_refused(self, step: Step, attempt: Attempt) -> None:
        """A step whose judgement was deferred is refused after all: it and what came after it are undone."""
        return None

    def round_repeated(self, steps: Sequence[Step], outcome: TargetOutcome) -> None:
        """The target was missed: `steps`, the last of the plan, are undone and will be done again."""
        return None

    def run_finished(self, summary: Summary) -> None:
        return None


class Unobserved(Observer):
    """The observer of a run that nobody watches."""
