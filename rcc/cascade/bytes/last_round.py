"""Search by secants for the strength that meets the byte target in the last round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """A last round that missed the target: its strength, the planned bytes of its matrices, those they took, and all
    other bytes."""

    strength: float
    planned: float
    matrices: int
    fixed: int

    @property
    def reached(self) -> int:
        """Bytes of the whole artifact."""
        return self.matrices + self.fixed


class SecantSearch:
    """The trials that missed a target of `nbytes`, in order.

    Attributes:
        trials: what each came out at.
        exhausted: why no further one would come nearer; the nearest is then done once more. Empty while one may.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.trials: list[Trial] = []
        self.exhausted = ""

    @property
    def repeats(self) -> int:
        """The number of repeats of the round, the one under way included."""
        return len(self.trials) + bool(self.exhausted)

    def add(self, trial: Trial) -> None:
        """Note a trial that missed."""
        self.trials.append(trial)

    def end(self, reason: str) -> None:
        """Search no further; the nearest trial is to be done once more."""
        self.exhausted = reason

    def has_nearer(self, reached: int) -> bool:
        """Whether an earlier trial came nearer to the target than `reached` bytes."""
        return any(self._distance(trial.reached) < self._distance(reached) for trial in self.trials)

    def strength(self) -> float | None:
        """The strength to take without asking the plans: that of the nearest trial once the search has ended, or the
        one at which the line through the two nearest trials, one above the target and one below it, meets it.

        None while all trials lie on one side. The size is non-linear in the strength (ranks are whole numbers, the
        cheapest encoding changes with the share of zeros), so that extrapolating may overshoot; between two trials the
        line can err by no more than they are apart.
        """
        if self.exhausted:
            return min(self.trials, key=lambda trial: self._distance(trial.reached)).strength
        above = [trial for trial in self.trials if trial.reached > self.nbytes]
        below = [trial for trial in self.trials if trial.reached < self.nbytes]
        if not above or not below:
            return None
        more, less = min(above, key=lambda trial: trial.reached), max(below, key=lambda trial: trial.reached)
        part = (more.reached - self.nbytes) / (more.reached - less.reached)
        return more.strength + part * (less.strength - more.strength)

    def correction(self) -> Callable[[float], float] | None:
        """From planned bytes of the matrices to those of the artifact: the line through the last two trials, or in
        proportion to the only one; None where there is none yet."""
        if not self.trials:
            return None
        last = self.trials[-1]
        slope = last.matrices / max(1.0, last.planned)
        if len(self.trials) > 1:
            before = self.trials[-2]
            rise = (before.matrices - last.matrices) / (before.planned - last.planned)
            # A falling line would send the search the wrong way: more planned bytes always mean a larger artifact.
            slope = rise if rise > 0 else slope
        return lambda planned: last.fixed + last.matrices + slope * (planned - last.planned)

    def _distance(self, reached: int) -> int:
        return abs(reached - self.nbytes)

    def to_json(self) -> dict[str, Any]:
        """The state of the search, for a resumed run."""
        return {"trials": [list(astuple(trial)) for trial in self.trials], "exhausted": self.exhausted}

    def recall(self, data: Mapping[str, Any]) -> None:
        """Restore what `to_json` gave."""
        self.trials = [Trial(*trial) for trial in data["trials"]]
        self.exhausted = data["exhausted"]
