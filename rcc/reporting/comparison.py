"""Models measured side by side: the table people read, and the same numbers with all digits as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rcc.measurement import Difference, Measurement, Metric
from rcc.reporting.formats import MISSING, difference_text, metric_text, ratio_text
from rcc.reporting.layout import least_width
from rcc.reporting.tables import INTERVAL, Table, interval_cell

CSV_HEAD = (
    *("model", "metric", "value", "standard_error", "unit", "better"),
    *("difference", "difference_standard_error", "recorded"),
    *("low", "high", "difference_low", "difference_high"),
)


@dataclass(frozen=True)
class Column:
    """One model of a comparison.

    Attributes:
        name: as it was asked for.
        kind: 'dense', 'artifact' or 'checkpoint'.
        nbytes: of its directory on disk, of a dense model as it would be in float32.
        load_seconds: from its files to a model in memory; None where it was not asked for.
        measured: every metric there is of it.
        differences: to the first column, by metric; empty in the first.
        library_seconds: the same by transformers itself; None of what it cannot load.
        recorded: what an artifact's manifest recorded on this very data, by metric; None where it did not.
    """

    name: str
    kind: str
    nbytes: int
    load_seconds: float | None
    measured: Measurement
    differences: Mapping[str, Difference] = field(default_factory=dict)
    recorded: Mapping[str, float] | None = None
    library_seconds: float | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those measured, and what is known of the files."""
        times = {"load_time_transformers": self.library_seconds, "load_time": self.load_seconds}
        loading = [Metric(name, seconds, "s", False) for name, seconds in times.items() if seconds is not None]
        return (*self.measured.metrics, Metric("bytes_on_disk", self.nbytes, "bytes", False), *loading)

    @property
    def as_recorded(self) -> str:
        """Whether what was recorded came out again to the last digit: 'yes', 'no', or '-' where nothing was."""
        now = {metric.name: metric.value for metric in self.measured.metrics}
        before = {name: value for name, value in (self.recorded or {}).items() if name in now}
        if not before:
            return MISSING
        return "yes" if all(now[name] == value for name, value in before.items()) else "no"

    def to_json(self) -> dict[str, Any]:
        """All but the details of single images."""
        return {
            "name": self.name,
            "kind": self.kind,
            "primary": self.measured.primary,
            "split": self.measured.split,
            "samples": self.measured.samples,
            "metrics": [asdict(metric) for metric in self.metrics],
            "differences": {name: asdict(each) for name, each in self.differences.items()},
            "recorded": None if self.recorded is None else dict(self.recorded),
        }


def comparison_tables(columns: Sequence[Column], width: int) -> list[Table]:
    """As few tables as fit into `width` characters, each with the first model beside as many others as there is room
    for; at least one."""
    numbered = {column.name: number for number, column in enumerate(columns, 1)}
    tables, start = [], 1
    while start < len(columns):
        end = start + 1
        while end < len(columns) and least_width(_table([columns[0], *columns[start : end + 1]], numbered)) <= width:
            end += 1
        tables.append(_table([columns[0], *columns[start:end]], numbered))
        start = end
    return tables


def legend(columns: Sequence[Column]) -> list[str]:
    """The model that each number in the heads of the tables stands for, a line each."""
    told = ("the model of model=" if each.kind == "dense" else f"{each.name}, {each.kind}" for each in columns)
    return [f"({number}) {name}" for number, name in enumerate(told, 1)]


def _table(columns: Sequence[Column], numbered: Mapping[str, int]) -> Table:
    """A row a metric with each model's value, under it the difference to the first model, the interval under each."""
    first, *others = columns
    rows = []
    for metric in _all_metrics(columns):
        found = [_named(column, metric.name) for column in columns]
        mark = " (primary)" if metric.name == first.measured.primary else ""
        better = "higher" if metric.higher_is_better else "lower"
        rows.append((metric.name + mark, *(MISSING if each is None else metric_text(each) for each in found), better))
        rows += _intervals([interval_cell(each, metric) for each in found])
        apart = [column.differences.get(metric.name) for column in others]
        if any(apart):
            told = (MISSING if each is None else difference_text(metric, each) for each in apart)
            rows.append(("  difference", "", *told, ""))
            rows += _intervals(["", *(interval_cell(each, metric) for each in apart)])
    rows.append(("times smaller", *(ratio_text(first.nbytes, column.nbytes) for column in columns), "higher"))
    if any(column.as_recorded != MISSING for column in columns):
        rows.append(("same as recorded", *(column.as_recorded for column in columns), ""))
    return Table(("metric", *(f"({numbered[column.name]})" for column in columns), "better when"), tuple(rows))


def _intervals(cells: Sequence[str]) -> list[tuple[str, ...]]:
    """The row of intervals under a row of numbers, where any of them has one."""
    return [(INTERVAL, *cells, "")] if any(cells) else []


def single_table(column: Column) -> Table:
    """Each metric of one model with its interval, all digits, and what its manifest had recorded, if it had."""
    compared = column.as_recorded != MISSING
    rows = []
    for metric in column.metrics:
        before = (column.recorded or {}).get(metric.name)
        same = MISSING if before is None else "yes" if before == metric.value else "no"
        recorded = (MISSING if before is None else repr(before), same) if compared else ()
        bounds = interval_cell(metric, metric) or MISSING
        rows.append((metric.name, metric_text(metric), bounds, repr(metric.value), *recorded))
    more = ("recorded", "the same") if compared else ()
    return Table(("metric", "value", "interval", "all digits", *more), tuple(rows))


def comparison_csv(columns: Sequence[Column]) -> str:
    """One line for each model and metric, all digits; empty where there is no number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for column in columns:
        for metric in column.metrics:
            apart = column.differences.get(metric.name)
            writer.writerow(
                (
                    *(column.name, metric.name, metric.value, metric.standard_error, metric.unit),
                    "higher" if metric.higher_is_better else "lower",
                    *((None, None) if apart is None else (apart.value, apart.standard_error)),
                    (column.recorded or {}).get(metric.name),
                    *_ends(metric),
                    *_ends(apart),
                )
            )
    return stream.getvalue()


def _ends(number: Metric | Difference | None) -> tuple[float | None, float | None]:
    bounds = None if number is None else number.bounds
    return (None, None) if bounds is None else (bounds.low, bounds.high)


def _all_metrics(columns: Sequence[Column]) -> Iterator[Metric]:
    """Each metric of any column once, in the order of the column that has most of them."""
    every = {metric.name: metric for metric in max(columns, key=lambda column: len(column.metrics)).metrics}
    for column in columns:
        every |= {metric.name: metric for metric in column.metrics if metric.name not in every}
    yield from every.values()


def _named(column: Column, name: str) -> Metric | None:
    return next((metric for metric in column.metrics if metric.name == name), None)
