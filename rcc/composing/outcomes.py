"""Record what the jobs of a command came to, and print the table that a sweep ends with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Objective = tuple[float, float]


@dataclass
class Outcome:
    """One job: what it was asked, where it ran, and its objective (retention, bytes) or its error."""

    number: int
    overrides: tuple[str, ...]
    directory: Path
    value: Any = None
    error: BaseException | None = None

    @property
    def objective(self) -> Objective | None:
        """(retention, bytes), or None for a job that has none: it failed, or it was no compression."""
        if isinstance(self.value, tuple) and len(self.value) == 2:
            return float(self.value[0]), float(self.value[1])
        return None

    @property
    def missed(self) -> str:
        """Why the job's target in bytes was missed; empty where it was met, or where there was none."""
        return str(getattr(self.value, "missed", ""))


def front(objectives: Sequence[Objective]) -> set[Objective]:
    """The objectives that no other beats: none has as much retention in as few bytes, and more of one."""
    return {
        one
        for one in objectives
        if not any(other[0] >= one[0] and other[1] <= one[1] and other != one for other in objectives)
    }


def table(outcomes: Sequence[Outcome]) -> str:
    """The jobs of a sweep, smallest artifact first, with '*' at those on the Pareto front.

    What all jobs were asked alike is left out, and long numbers are cut; the jobs' files hold all digits.
    """
    best = front([outcome.objective for outcome in outcomes if outcome.objective])
    alike = set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    rows = [("", "job", "retention", "bytes", "asked")]
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.objective or (0.0, float("inf")))[1]):
        objective = outcome.objective
        retention = f"{objective[0]:.2%}" if objective else "-"
        nbytes = f"{objective[1]:,.0f}" if objective else ("failed" if outcome.error else "-")
        words = " ".join(_short(text) for text in outcome.overrides if text not in alike)
        words += " (target missed)" * bool(outcome.missed)
        rows.append(("*" if objective in best else "", str(outcome.number), retention, nbytes, words))
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


def _short(override: str) -> str:
    """`key=0.6219343632501507` as `key=0.6219`."""
    return re.sub(r"(\d\.\d{4})\d+", r"\1", override)
