"""Record what the jobs of a command came to, and print the table that a sweep ends with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcc.command_line import key_of
from rcc.sweeps.front import on_front

Objective = tuple[float, float]


@dataclass
class Outcome:
    """One job: what it was asked, where it ran, and what it came to, as plain data that passes from one process to
    another.

    Attributes:
        number: of a sweep's job, that of its folder and of its trial.
        numbers: by name, with 'retention' and 'bytes' of a compression; empty where it failed or was none.
        missed: why its target in bytes was missed; empty where it was met, or where there was none.
        target: that target in bytes.
        violated: the constraints of a search that it does not keep.
        error: why it failed; empty where it did not.
        abandoned: after which step its search stopped it early, and why; empty where it did not.
        exit_code: that a run of it alone would have had.
        done: whether it has come to its end; another process may be at it still.
    """

    number: int
    overrides: tuple[str, ...]
    directory: Path
    numbers: dict[str, float] = field(default_factory=dict)
    missed: str = ""
    target: float | None = None
    violated: tuple[str, ...] = ()
    error: str = ""
    abandoned: str = ""
    exit_code: int = 0
    done: bool = True

    def take(self, value: Any) -> None:
        """Note what a job returned: (retention, bytes), and what it says beside them."""
        if isinstance(value, tuple) and len(value) == 2:
            pair = {"retention": float(value[0]), "bytes": float(value[1])}
            self.numbers = pair | dict(getattr(value, "numbers", {}))
        self.missed = str(getattr(value, "missed", ""))
        self.target = getattr(value, "target", None)
        self.abandoned = str(getattr(value, "abandoned", ""))

    @property
    def objective(self) -> Objective | None:
        """(retention, bytes), or None for a job that has none: it failed, was abandoned, or was no compression."""
        return (self.numbers["retention"], self.numbers["bytes"]) if self.numbers else None

    @property
    def feasible(self) -> bool:
        """Whether it is what was asked for: its target met and all constraints kept."""
        return not self.missed and not self.violated


@dataclass
class Command:
    """What the command line and the sweeper that it starts tell each other.

    Attributes:
        outcomes: of the jobs, so far; in the end of all jobs of a sweep, whichever process ran them.
        resumes: whether the command goes on with a sweep.
        sweep: the folder of the sweep, once it can be gone on with.
        again: what a command that goes on with it must say again.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    resumes: bool = False
    sweep: Path | None = None
    again: Sequence[str] = ()


def front(objectives: Sequence[Objective]) -> set[Objective]:
    """The objectives that no other beats: none has as much retention in as few bytes, and more of one."""
    return {one for one, best in zip(objectives, on_front(objectives), strict=True) if best}


def table(outcomes: Sequence[Outcome]) -> str:
    """The jobs of a sweep, smallest artifact first, with '*' at those on the Pareto front.

    What all jobs were asked alike is left out, and long numbers are cut; the jobs' files hold all digits.
    """
    best = front([outcome.objective for outcome in outcomes if outcome.objective and outcome.feasible])
    alike = set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    rows = [("", "job", "retention", "bytes", "asked")]
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.objective or (0.0, float("inf")))[1]):
        objective = outcome.objective
        retention = f"{objective[0]:.2%}" if objective else "-"
        nothing = "unfinished" if not outcome.done else _without_result(outcome)
        nbytes = f"{objective[1]:,.0f}" if objective else nothing
        words = " ".join(_short(text) for text in outcome.overrides if text not in alike and key_of(text) != "resume")
        words += " (target missed)" * bool(outcome.missed)
        words += f" (not {' and '.join(outcome.violated)})" if outcome.violated else ""
        on_front = objective in best and outcome.feasible
        rows.append(("*" if on_front else "", str(outcome.number), retention, nbytes, words))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        " ".join(
            (
                f"{mark:<{widths[0]}}",
                f"{job:>{widths[1]}}",
                f" {kept:>{widths[2]}}",
                f" {size:>{widths[3]}}",
                f" {words}",
            )
        ).rstrip()
        for mark, job, kept, size, words in rows
    ]
    if best:
        lines.append("* on the Pareto front: no other job keeps as much in as few bytes")
    if outcomes:
        lines.append(f"Each job's files: {outcomes[0].directory.parent}/<job>")
    return "\n".join(lines)


def _without_result(outcome: Outcome) -> str:
    return "failed" if outcome.error else "abandoned" if outcome.abandoned else "-"


def _short(override: str) -> str:
    """`key=0.6219343632501507` as `key=0.6219`."""
    return re.sub(r"(\d\.\d{4})\d+", r"\1", override)
