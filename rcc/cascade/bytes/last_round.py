"""What the tries of a run's last round came out at, and which strength they say to try next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Found:
    """What a try came out at: the planned bytes of its matrices, those they took, and all others."""

    strength: float
    planned: float
    matrices: int
    fixed: int

    @property
    def reached(self) -> int:
        """Bytes of the whole artifact."""
        return self.matrices + self.fixed


class LastRound:
    """The tries that missed a target of `nbytes`, in order.

    Attributes:
        found: what each came out at.
        given_up: why no further one would come nearer; the nearest is then done once more. Empty while one may.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.found: list[Found] = []
        self.given_up = ""

    @property
    def repeats(self) -> int:
        """How often the round was done again, the time that is under way included."""
        return len(self.found) + bool(self.given_up)

    def add(self, found: Found) -> None:
        """Note a try that missed."""
        self.found.append(found)

    def give_up(self, reached: int, reason: str) -> bool:
        """End the search with a try that came out at `reached`. Whether an earlier one was nearer, and is to be done
        once more."""
        again = any(self._off(found.reached) < self._off(reached) for found in self.found)
        self.given_up = reason if again else ""
        return again

    def known(self) -> float | None:
        """The strength that leaves no doubt: that of the nearest try once the search is given up, or the one at which
        the line through the two nearest, one above the target and one below it, meets it. None while all are on one
        side: what rounds come out at bends, so that a line from outside may miss."""
        if self.given_up:
            return min(self.found, key=lambda found: self._off(found.reached)).strength
        above = [found for found in self.found if found.reached > self.nbytes]
        below = [found for found in self.found if found.reached < self.nbytes]
        if not above or not below:
            return None
        more, less = min(above, key=lambda found: found.reached), max(below, key=lambda found: found.reached)
        part = (more.reached - self.nbytes) / (more.reached - less.reached)
        return more.strength + part * (less.strength - more.strength)

    def correction(self) -> Callable[[float], float] | None:
        """From planned bytes of the matrices to those of the artifact: the line through what the last two tries came
        out at, or in proportion to the only one; None where there is none yet."""
        if not self.found:
            return None
        last = self.found[-1]
        slope = last.matrices / max(1.0, last.planned)
        if len(self.found) > 1:
            before = self.found[-2]
            rise = (before.matrices - last.matrices) / (before.planned - last.planned)
            slope = rise if rise > 0 else slope
        return lambda planned: last.fixed + last.matrices + slope * (planned - last.planned)

    def _off(self, reached: int) -> int:
        return abs(reached - self.nbytes)

    def to_json(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"found": [list(astuple(found)) for found in self.found], "given_up": self.given_up}

    def recall(self, data: Mapping[str, Any]) -> None:
        """Take up what a run knew."""
        self.found = [Found(*found) for found in data["found"]]
        self.given_up = data["given_up"]
