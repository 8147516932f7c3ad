"""Record where a training stands, and what each of its epochs was like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rcc.errors import WorkError
from rcc.learning.loop import Step
from rcc.learning.training_options import TrainingOptions


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data.

    Args:
        loss: mean of the losses of its steps, each before the step.
        score: on data that is not trained on; higher is better.
        norm, largest_norm: mean and largest norm of the whole gradient before clipping.
        skipped: steps whose loss or gradient was not finite.
        retried: steps taken in float32 because they were not finite under autocast.
    """

    number: int
    loss: float
    score: float
    norm: float = 0.0
    largest_norm: float = 0.0
    skipped: int = 0
    retried: int = 0

    @classmethod
    def of(cls, number: int, steps: Sequence[Step]) -> Epoch:
        """The epoch of these steps, of which one at least was taken, without a score."""
        taken = [step for step in steps if step.taken]
        norms = [step.norm for step in taken]
        return cls(
            number,
            loss=sum(step.loss for step in taken) / len(taken),
            score=float("nan"),
            norm=sum(norms) / len(norms),
            largest_norm=max(norms),
            skipped=len(steps) - len(taken),
            retried=sum(step.retried for step in taken),
        )

    def told(self, rate: float) -> str:
        """The epoch in a line, with the steps a second so far."""
        skipped = f", {self.skipped} steps skipped" if self.skipped else ""
        return f"loss {self.loss:.3f}, selection {self.score:.4f}, {rate:.3g} steps/s{skipped}"


@dataclass
class History:
    """Every epoch, and the number of the one whose weights were kept."""

    epochs: list[Epoch] = field(default_factory=list)
    kept: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def waited(self) -> int:
        """Epochs since the first of the best score."""
        scores = [epoch.score for epoch in self.epochs]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0


@dataclass
class Standing:
    """Where a training stands between two steps.

    Args:
        epoch: epochs that are finished.
        step, skipped: steps so far, and those of them that moved nothing.
        position: batches of the present epoch that were trained on.
        steps: those of the present epoch.
        epoch_random: the random state that the present epoch began with; None between epochs.
    """

    epoch: int = 0
    step: int = 0
    skipped: int = 0
    position: int = 0
    steps: list[Step] = field(default_factory=list)
    epoch_random: dict[str, Any] | None = None
    history: History = field(default_factory=History)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "steps": [list(step) for step in self.steps], "history": self.history.to_json()}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Standing:
        """What `to_json` returned."""
        history = History([Epoch(**epoch) for epoch in data["history"]["epochs"]], data["history"]["kept"])
        return cls(**{**data, "steps": [Step(*step) for step in data["steps"]], "history": history})

    def take(self, step: Step) -> None:
        """Count a step."""
        self.steps.append(step)
        self.step += 1
        self.skipped += not step.taken

    def finish_epoch(self) -> list[Step]:
        """Count the epoch; returns its steps."""
        steps, self.steps, self.position, self.epoch_random = self.steps, [], 0, None
        self.epoch += 1
        return steps


def lost(step: Step, standing: Standing, options: TrainingOptions) -> WorkError:
    """The error of a training of which too many steps were not finite, the last of them `step`."""
    what, value = ("gradient's norm", step.norm) if math.isfinite(step.loss) else ("loss", step.loss)
    when = f"in epoch {standing.epoch + 1};"
    if standing.skipped == standing.step:
        when = "from the first step on: look for it in the data, or"
    full = "" if options.precision == "float32" else ", or take precision=float32"
    return WorkError(
        f"the training {what} became {value} {when} lower learning_rate ({options.learning_rate:g}) or clip_norm"
        f" ({options.clip_norm:g}){full}. {standing.skipped} of {standing.step} steps were left out, and"
        f" most_skipped is {options.most_skipped}."
    )
