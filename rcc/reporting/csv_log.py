"""metrics.csv: the rows of metrics.jsonl as a table, for a spreadsheet or pandas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rcc.atomic import write_text
from rcc.cascade.records import StepRecord, Summary
from rcc.reporting.delivery import Delivery
from rcc.reporting.metrics_log import FILE as ROWS
from rcc.reporting.metrics_log import KEY, read_metrics
from rcc.reporting.observers import RunObserver

FILE = "metrics.csv"
COLUMNS = (*KEY, "value", "unit", "time")


class CsvLog(RunObserver):
    """Writes `directory`/metrics.csv anew after each step and at the end, as metrics.jsonl stands then.

    A value that is not finite is an empty cell.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def step_finished(self, record: StepRecord) -> None:
        self._write()

    def run_finished(self, summary: Summary) -> None:
        self._write()

    def delivered(self, delivery: Delivery) -> None:
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(read_metrics(self.directory / ROWS))
        write_text(self.directory / FILE, text.getvalue())
