"""report.md: what a run did, what it cost, what it left alone and why, and how to use what it made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcc.atomic import write_text
from rcc.cascade.records import StepRecord, Summary
from rcc.reporting.delivery import Delivery
from rcc.reporting.formats import (
    at_strength,
    bytes_text,
    metric_text,
    ratio_text,
    seconds_text,
    share_text,
)
from rcc.reporting.left_alone import left_alone
from rcc.reporting.prepared import left_text, prepared_text
from rcc.reporting.tables import INTERVALS, Table, notes_of, overlap_table, quality_table, size_table, step_table
from rcc.reporting.target import target_text

FILE = "report.md"


@dataclass(frozen=True)
class ReportContent:
    """All that a report says, as plain data.

    Attributes:
        title: what ran on what: 'dare → nullu → alpha on clip_tiny, digits'.
        command: the command line that would repeat the run.
        summary: the pipeline's own account, measured on the selection split.
        delivery: the written artifact and its test; None if none was written.
        settings: the composed configuration, nested mappings of plain values.
        seed: of the run.
        environment: versions, Python and machine, as run.json has them.
        notes: further sentences for the head.
    """

    title: str
    command: str
    summary: Summary
    delivery: Delivery | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(directory: Path | str, content: ReportContent) -> Path:
    """Write `directory`/report.md in one instant and return its path."""
    path = Path(directory) / FILE
    write_text(path, report_text(content))
    return path


def report_text(content: ReportContent) -> str:
    """The report in Markdown."""
    summary = content.summary
    parts = [f"# {content.title}", *_head(content)]
    parts += ["## Steps", *_steps(summary)]
    if content.delivery is not None:
        parts += ["## On the test split", *_test(content.delivery)]
        parts += ["## On disk", *_disk(content.delivery)]
    parts += ["## What was left alone", *_left_alone(summary.records)]
    parts += ["## Overlap of subspaces", *_overlap(summary)]
    parts += ["## Suggestions", "\n".join(f"- {line}" for line in summary.suggestions) or "None."]
    parts += ["## Settings", *_settings(content)]
    return "\n\n".join(parts) + "\n"


def _head(content: ReportContent) -> Iterator[str]:
    summary, delivery = content.summary, content.delivery
    before, after = summary.baseline.size, summary.size
    yield (
        f"{len(summary.records)} steps in {seconds_text(sum(record.seconds for record in summary.records))}: "
        f"{bytes_text(before.nbytes)} became {bytes_text(after.nbytes)} "
        f"({ratio_text(before.nbytes, after.nbytes)} smaller at the same dtype), and the model keeps "
        f"{share_text(summary.retention)} of the dense model's "
        f"{summary.baseline.measurement.primary} on the selection split."
    )
    if delivery is not None and delivery.target is not None:
        yield target_text(delivery.target, delivery.nbytes)
    if said := prepared_text(summary.baseline.prepared):
        yield said
    if left := left_text(summary.baseline.prepared):
        yield "Not folded or moved:\n\n" + "\n".join(f"- {line}" for line in left)
    yield from content.notes
    yield f"Run again:\n\n```\n{content.command}\n```"
    if delivery is None:
        yield "No artifact was written."
        return
    yield f"The artifact is in `{delivery.artifact}`. Use it from Python, or measure it again:"
    path = json.dumps(delivery.artifact, ensure_ascii=False)
    yield f"```python\nimport rcc\n\nmodel = rcc.load({path})\n```\n\n```\n{delivery.again}\n```"


def _steps(summary: Summary) -> Iterator[str]:
    main = summary.baseline.measurement.main
    better = "higher" if main.higher_is_better else "lower"
    yield markdown(step_table(summary.baseline, summary.records))
    yield (
        f"Every row is the model after that step. The {main.name} is measured on the selection split "
        f"({summary.baseline.measurement.samples} samples, dense {metric_text(main, interval=True)}, {better} "
        "is better). Retention is against the dense model. Size is what the artifact's weights would take, "
        "times smaller is against the dense weights at the same dtype. Peak memory is the whole process's."
    )
    unchanged = [f"- {record.step.name}: {record.reason}" for record in summary.records if record.reason]
    if unchanged:
        yield "Steps that changed nothing, or were left out:\n\n" + "\n".join(unchanged)
    chosen = {record.step.label: record.chosen for record in summary.records if record.chosen}
    if chosen:
        yield f"Options left at `auto` came to: {'; '.join(f'{label} {text}' for label, text in chosen.items())}."
    failed = [
        f"- {record.step.name}, attempt {attempt.number}{at_strength(attempt.strength)}: {attempt.problem}"
        for record in summary.records
        for attempt in record.attempts
        if attempt.problem
    ]
    if failed:
        yield "Attempts that did not pass:\n\n" + "\n".join(failed)


def _test(delivery: Delivery) -> Iterator[str]:
    yield markdown(quality_table(delivery))
    yield (
        f"{delivery.compressed.samples} samples that no stage, gate or sweep has seen. {INTERVALS} "
        "The compressed column is the model reloaded from the artifact; it keeps "
        f"{share_text(delivery.retention)} of the dense {delivery.dense.primary}."
    )
    yield from notes_of([delivery.dense, delivery.compressed])


def _disk(delivery: Delivery) -> Iterator[str]:
    yield markdown(size_table(delivery))
    yield "Bytes of all files of a directory that loads by itself: weights, configuration and processor."


def _left_alone(records: Sequence[StepRecord]) -> Iterator[str]:
    table = left_alone(records)
    yield markdown(table) if table.rows else "Nothing: every stage touched every unit of the model."


def _overlap(summary: Summary) -> Iterator[str]:
    table = overlap_table(summary.records)
    if not table.rows:
        yield f"Undefined: {summary.overlap.get('reason') or 'no step found and left low-rank parts'}."
        return
    yield markdown(table)
    yield (
        "The row space of a layer's low-rank part before and after the step: the mean cos² of their principal "
        "angles (1 is the same space), beside what random spaces of those widths would have, and the distance "
        "on the Grassmannian (0 is the same space). Critical are layers in which a low-rank stage chose nearly the "
        "space that another one had chosen before; every layer is in metrics.jsonl."
    )


def _settings(content: ReportContent) -> Iterator[str]:
    yield f"Seed {content.seed}."
    facts = [f"- {name}: {value}" for name, value in _leaves(content.environment)]
    if facts:
        yield "\n".join(facts)
    yield "```\n" + "\n".join(f"{name}={value}" for name, value in _leaves(content.settings)) + "\n```"


def markdown(table: Table) -> str:
    """A table in Markdown; a bar inside a cell is escaped."""
    rule = [":--" if number < table.left else "--:" for number in range(len(table.head))]
    lines = [table.head, rule, *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _leaves(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The values inside nested mappings under dotted names, as overrides write them; lists stay whole."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{name}" if prefix else str(name))
    elif value is None or isinstance(value, (bool, list, tuple)):
        yield prefix, json.dumps(value, ensure_ascii=False, default=str)
    else:
        yield prefix, str(value)
