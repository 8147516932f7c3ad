"""Group the units that steps left as they were by reason, with layer numbers and numbers in reasons folded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rcc.cascade.records import Step, StepRecord
from rcc.reporting.tables import Table, short_name

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?![\w.])")
_LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def left_alone(records: Sequence[StepRecord]) -> Table:
    """One row for each reason and set of units, with the stages it happened in."""
    steps: dict[tuple[str, tuple[str, ...]], list[Step]] = {}
    for record in records:
        for reason, names in _by_reason(record.skipped).items():
            steps.setdefault((reason, tuple(names)), []).append(record.step)
    # A step that was rolled back says nothing of its units.
    said = [record.step for record in records if record.outcome != "skipped"]
    rows = tuple(
        (reason, _stages(where, said), folded(names), str(len(names))) for (reason, names), where in steps.items()
    )
    return Table(("reason", "stages", "names", "units"), rows, left=3)


def _stages(steps: Sequence[Step], said: Sequence[Step]) -> str:
    """'dare, nullu 2/3': a stage by its label alone when it is there in every round that says anything."""
    parts = []
    for label in dict.fromkeys(step.label for step in steps):
        rounds = [step for step in steps if step.label == label]
        every = {step.round for step in rounds} >= {step.round for step in said if step.label == label}
        parts += [label] if every else [short_name(step) for step in rounds]
    return ", ".join(parts)


def folded(names: Iterable[str]) -> str:
    """Names with layer numbers replaced by a star and counted: 'text.layers.*.fc1 (12)'."""
    counts = Counter(_LAYER_NUMBER.sub("*", name) for name in names)
    return ", ".join(f"{name} ({count})" if "*" in name else name for name, count in counts.items())


def _by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped:
        reasons.setdefault(_NUMBER.sub("…", reason), []).append(name)
    return reasons
