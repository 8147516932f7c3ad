"""metrics.csv: a row for each of metrics.jsonl, also after a resume that dropped some."""

from __future__ import annotations

import csv

from rcc.reporting.csv_log import CsvLog
from rcc.reporting.metrics_log import MetricsLog, read_metrics
from rcc.reporting.observers import Observers


def rows(directory):
    with (directory / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_rows_of_the_metrics_at_each_step(tmp_path, steps, baseline, records):
    observers = Observers([MetricsLog(tmp_path)], loggers=[CsvLog(tmp_path)])
    observers.run_started(steps, 0)
    observers.baseline_measured(baseline)
    for record in records[:2]:
        observers.step_finished(record)
        assert len(rows(tmp_path)) == len(read_metrics(tmp_path / "metrics.jsonl"))
    again = Observers([MetricsLog(tmp_path)], loggers=[CsvLog(tmp_path)])
    again.run_started(steps, 1)
    again.step_finished(records[1])
    found = rows(tmp_path)
    assert len(found) == len(read_metrics(tmp_path / "metrics.jsonl"))
    retention = [row for row in found if (row["step"], row["name"]) == ("1", "retention")]
    assert [(row["stage"], row["value"], row["unit"]) for row in retention] == [("dare", "0.99", "fraction")]
    assert [row["value"] for row in found if row["name"] == "facts.energy"] == [""], "no number"
