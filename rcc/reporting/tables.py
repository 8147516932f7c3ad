"""Build the tables that console and report share, as rows of strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.cascade.records import Baseline, Size, Step, StepRecord
from rcc.measurement import Difference, Measurement, Metric
from rcc.measurement.interval import LEVEL
from rcc.reporting.delivery import Delivery
from rcc.reporting.formats import (
    MISSING,
    bytes_text,
    count_text,
    difference_text,
    interval_text,
    metric_text,
    ratio_text,
    seconds_text,
    share_text,
    strength_text,
)

INTERVAL = "  interval"
INTERVALS = (
    f"Under a number is its {LEVEL:.0%} interval, of a change that of the same items measured twice; changes up to its "
    "ends are not ruled out."
)


@dataclass(frozen=True)
class Table:
    """A head and rows as long as it. The first `left` columns hold text, the others numbers, which end at the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def step_table(baseline: Baseline, records: Sequence[StepRecord]) -> Table:
    """One row for the dense model and one for each finished step, with the numbers of the model after it."""
    before = baseline.size
    rows = [
        (
            *("dense", MISSING, MISSING, share_text(1.0)),
            *_numbers(baseline.measurement, before, before),
            seconds_text(baseline.seconds),
            MISSING,
        )
    ]
    for record in records:
        tried = record.attempts[-1].strength if record.attempts else record.step.strength
        rows.append(
            (
                short_name(record.step),
                record.outcome,
                strength_text(tried),
                share_text(record.retention),
                *_numbers(record.measurement, record.size, before),
                seconds_text(record.seconds),
                bytes_text(record.peak_bytes),
            )
        )
    head = (
        *("step", "outcome", "strength", "retention", baseline.measurement.primary),
        *("size", "times smaller", "non-zeros", "time", "peak memory"),
    )
    return Table(head, tuple(rows), left=2)


def short_name(step: Step) -> str:
    """'dare', or 'dare 2/3' in the second of three rounds."""
    return step.label if step.rounds == 1 else f"{step.label} {step.round}/{step.rounds}"


def quality_table(delivery: Delivery) -> Table:
    """The dense model beside the reloaded artifact on the test split, every metric and under it the intervals."""
    dense, compressed = (
        {metric.name: metric for metric in measured.metrics} for measured in (delivery.dense, delivery.compressed)
    )
    rows = []
    for name, metric in (compressed | dense).items():
        apart, both = delivery.differences.get(name), [of.get(name) for of in (dense, compressed)]
        rows.append(
            (
                name + (" (primary)" if name == delivery.dense.primary else ""),
                *(MISSING if each is None else metric_text(each) for each in both),
                MISSING if apart is None else difference_text(metric, apart),
                "higher" if metric.higher_is_better else "lower",
            )
        )
        bounds = [interval_cell(each, metric) for each in (*both, apart)]
        if any(bounds):
            rows.append((INTERVAL, *bounds, ""))
    return Table(("metric", "dense", "compressed", "change", "better when"), tuple(rows))


def interval_cell(number: Metric | Difference | None, metric: Metric) -> str:
    """The interval of the metric, or of its change; nothing where there is none."""
    if number is None or number.bounds is None:
        return ""
    return interval_text(number.bounds, metric, signed=isinstance(number, Difference))


def notes_of(measured: Sequence[Measurement]) -> list[str]:
    """The evaluators' notes on how they measured, each sentence once."""
    details = (each for one in measured for each in one.details.values() if isinstance(each, dict))
    return list(dict.fromkeys(str(each["note"]) for each in details if "note" in each))


def size_table(delivery: Delivery) -> Table:
    """The artifact's directory on disk against dense loadable directories of each dtype."""
    rows = [(f"artifact ({delivery.dtype})", f"{delivery.nbytes:,}", bytes_text(delivery.nbytes), MISSING)]
    for dtype, nbytes in delivery.dense_bytes.items():
        rows.append((f"dense ({dtype})", f"{nbytes:,}", bytes_text(nbytes), ratio_text(nbytes, delivery.nbytes)))
    return Table(("directory", "bytes", "size", "times artifact"), tuple(rows))


def overlap_table(records: Sequence[StepRecord]) -> Table:
    """One row for each step that found and left low-rank parts: how far the row spaces it left are those it found."""
    rows = []
    for record in records:
        found = record.overlap
        if found.get("mean_overlap") is None:
            continue
        means = (_three(found[key]) for key in ("mean_overlap", "mean_baseline", "max_overlap", "mean_distance"))
        defined = [layer for layer in found["layers"].values() if layer["overlap"] is not None]
        rows.append((short_name(record.step), *means, str(len(defined)), str(len(found["critical"]))))
    head = ("step", "mean overlap", "of random spaces", "largest", "mean distance", "layers", "critical")
    return Table(head, tuple(rows))


def _three(value: float | None) -> str:
    """Three decimals; '-' where undefined, as the distance of spaces of different widths is."""
    return MISSING if value is None else f"{value:.3f}"


def _numbers(measurement: Measurement, size: Size, dense: Size) -> tuple[str, ...]:
    return (
        metric_text(measurement.main),
        bytes_text(size.nbytes),
        ratio_text(dense.nbytes, size.nbytes),
        count_text(size.nonzeros),
    )
