"""Read metrics.jsonl as numbers by step, attempt and layer; what is no number of ours is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rcc.errors import is_number, is_whole
from rcc.limits import regular_file
from rcc.reporting.metrics_log import FILE

Values = dict[str, float]
LARGEST = 1e18
"""Of a number that means anything: bytes, seconds, shares."""
OF_LAYERS = ('"name": "units.', '"name": "overlap.')
"""What the lines of single layers hold: most of the file, and nothing that a sweep's page shows."""


@dataclass
class StepNumbers:
    """What was written of one step: 0 is the dense model.

    Attributes:
        values: of the finished step, the model after it.
        attempts: of each try, by its number.
        layers: of each layer that the stage touched, by its measures.
    """

    index: int
    label: str = ""
    round: int | None = None
    values: Values = field(default_factory=dict)
    attempts: dict[int, Values] = field(default_factory=dict)
    layers: dict[str, Values] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return "retention" in self.values or self.index == 0

    @property
    def kept(self) -> bool:
        """Whether the model is what the step made of it."""
        return self.values.get("kept") == 1.0

    @property
    def strength(self) -> float | None:
        """That of its last attempt."""
        return self.attempts[max(self.attempts)].get("strength") if self.attempts else None


@dataclass
class Numbers:
    """All numbers of a run: of its steps by index, of the whole run, of its artifact on the test split; the unit of
    each name of the last; and when the last one was written."""

    steps: dict[int, StepNumbers] = field(default_factory=dict)
    run: Values = field(default_factory=dict)
    artifact: Values = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    last: datetime | None = None

    @property
    def dense(self) -> Values:
        """The dense model on the selection split; empty before it was measured."""
        return self.steps[0].values if 0 in self.steps else {}

    @property
    def done(self) -> list[StepNumbers]:
        """The finished steps in order, without the dense model."""
        return [step for index, step in sorted(self.steps.items()) if index > 0 and step.finished]


def read_numbers(path: Path, layers: bool = True) -> Numbers:
    """The numbers in the file of a run's directory; none if there is no file.

    Args:
        layers: whether to read those of single layers too.

    Raises:
        UserError: it is no regular file, or larger than `limits.table_bytes`.
        OSError: it cannot be read.
    """
    found = Numbers()
    for line in _lines(path / FILE, layers):
        _take(found, line)
    return found


def number_of(value: Any) -> float | None:
    """A float of at most `LARGEST`, or None for anything else: a number of a file may have any number of digits."""
    if not is_number(value):
        return None
    try:
        read = float(value)
    except OverflowError:
        return None
    return read if abs(read) <= LARGEST else None


def moment(text: Any) -> datetime | None:
    """A time as run.json and metrics.jsonl write it, in UTC; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _lines(path: Path, layers: bool) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with regular_file(path, limit="table_bytes").open(encoding="utf-8", errors="replace", newline="\n") as stream:
        for text in stream:
            if not layers and any(mark in text for mark in OF_LAYERS):
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("name"), str):
                yield line


def _take(found: Numbers, line: Mapping[str, Any]) -> None:
    """Put one line where it belongs."""
    name, value, step = line["name"], number_of(line.get("value")), line.get("step")
    found.last = moment(line.get("time")) or found.last
    if value is None:
        return
    if step is None:
        if line.get("stage") == "artifact":
            found.artifact[name] = value
            found.units[name] = str(line.get("unit", ""))
        else:
            found.run[name] = value
        return
    if not is_whole(step) or not 0 <= step < 10**6:
        return
    at = found.steps.setdefault(step, StepNumbers(step, str(line.get("stage", ""))))
    at.round = line["round"] if is_whole(line.get("round")) else None
    attempt = line.get("attempt")
    if is_whole(attempt):
        at.attempts.setdefault(attempt, {})[name] = value
    elif name.startswith("units."):
        layer, _, measure = name.removeprefix("units.").rpartition(".")
        at.layers.setdefault(layer, {})[measure] = value
    else:
        at.values[name] = value
