"""Models side by side: the table and the CSV of hand-made columns."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from rcc.measurement import Difference, Interval, Measurement, Metric
from rcc.reporting.comparison import Column, comparison_csv, comparison_tables, legend, single_table
from rcc.reporting.items import write_items
from rcc.reporting.layout import laid_out


def column(name, accuracy, nbytes, speedup=None, **more):
    metrics = [
        Metric("accuracy", accuracy, "fraction", True, 0.01, Interval(accuracy - 0.0196, accuracy + 0.0196)),
        Metric("nonzeros", 5000, "parameters", False),
    ]
    metrics += [] if speedup is None else [Metric("speedup", speedup, "×")]
    measured = Measurement(tuple(metrics), "accuracy", "test", 100, {"zero_shot": {"predictions": [1, 2]}})
    return Column(name, "artifact", nbytes, 0.5, measured, **more)


DENSE = replace(column("dense", 0.9, 4000), kind="dense")
SMALL = column(
    "a/artifact", 0.875, 1000, 2.0,
    differences={"accuracy": Difference(-0.025, 0.005, Interval(-0.0348, -0.0152)), "nonzeros": Difference(-10)},
    recorded={"accuracy": 0.875, "other": 1.0},
)  # fmt: skip
OTHER = column("b", 0.8, 500, recorded={"accuracy": 0.5})


def test_each_metric_has_a_row_and_its_differences_another():
    (table,) = comparison_tables([DENSE, SMALL, OTHER], 100)
    assert table.head == ("metric", "(1)", "(2)", "(3)", "better when")
    assert legend([DENSE, SMALL, OTHER]) == ["(1) the model of model=", "(2) a/artifact, artifact", "(3) b, artifact"]
    assert table.rows == (
        ("accuracy (primary)", "90.00%", "87.50%", "80.00%", "higher"),
        ("  interval", "88.0 … 92.0", "85.5 … 89.5", "78.0 … 82.0", ""),
        ("  difference", "", "-2.50 points", "-", ""),
        ("  interval", "", "-3.5 … -1.5", "", ""),
        ("nonzeros", "5.00 k", "5.00 k", "5.00 k", "lower"),
        ("  difference", "", "-10", "-", ""),
        ("speedup", "-", "2.00×", "-", "higher"),
        ("bytes_on_disk", "4.00 kB", "1.00 kB", "500 B", "lower"),
        ("load_time", "0.50 s", "0.50 s", "0.50 s", "lower"),
        ("times smaller", "1.00×", "4.00×", "8.00×", "higher"),
        ("same as recorded", "-", "yes", "no", ""),
    )


@pytest.mark.parametrize("width", [10, 60, 80, 100, 1000])
def test_what_does_not_fit_goes_on_in_another_table_beside_the_first_model(width):
    tables = comparison_tables([DENSE, *(replace(SMALL, name=str(number)) for number in range(2, 8))], width)
    heads = [table.head[1:-1] for table in tables]
    assert all(head[0] == "(1)" for head in heads)
    assert [name for head in heads for name in head[1:]] == [f"({number})" for number in range(2, 8)]
    for table in tables:
        fits = all(lines.width <= width for lines in laid_out(table, width))
        assert fits or len(table.head) == 4
    assert len(tables) == {10: 6, 60: 6, 1000: 1}.get(width, len(tables))


def test_one_model_shows_all_digits_and_what_was_recorded():
    assert single_table(SMALL).rows[:2] == (
        ("accuracy", "87.50%", "85.5 … 89.5", "0.875", "0.875", "yes"),
        ("nonzeros", "5.00 k", "-", "5000", "-", "-"),
    )
    assert single_table(OTHER).rows[0][-2:] == ("0.5", "no")


def test_nothing_is_overrides_of_records_where_there_are_none():
    for one in (DENSE, replace(SMALL, recorded=None), replace(SMALL, recorded={"other": 1.0})):
        table = single_table(one)
        assert table.head == ("metric", "value", "interval", "all digits")
        assert {len(row) for row in table.rows} == {4}


def test_the_csv_has_a_line_for_each_model_and_metric():
    rows = list(csv.DictReader(io.StringIO(comparison_csv([DENSE, SMALL]))))
    assert [(row["model"], row["metric"]) for row in rows] == [
        *(("dense", name) for name in ("accuracy", "nonzeros", "bytes_on_disk", "load_time")),
        *(("a/artifact", name) for name in ("accuracy", "nonzeros", "speedup", "bytes_on_disk", "load_time")),
    ]
    accuracy = rows[4]
    assert accuracy == {
        "model": "a/artifact", "metric": "accuracy", "value": "0.875", "standard_error": "0.01", "unit": "fraction",
        "better": "higher", "difference": "-0.025", "difference_standard_error": "0.005", "recorded": "0.875",
        "low": repr(0.875 - 0.0196), "high": repr(0.875 + 0.0196),
        "difference_low": "-0.0348", "difference_high": "-0.0152",
    }  # fmt: skip
    assert (rows[1]["better"], rows[1]["standard_error"], rows[1]["difference"]) == ("lower", "", "")


def test_json_keeps_numbers_and_leaves_single_images_to_the_items(tmp_path):
    written = json.loads(json.dumps(SMALL.to_json()))
    assert written["differences"]["accuracy"] == {
        "value": -0.025,
        "standard_error": 0.005,
        "interval": {"low": -0.0348, "high": -0.0152, "level": 0.95},
    }
    assert written["metrics"][0]["value"] == 0.875
    assert "predictions" not in json.dumps(written)
    path = write_items(tmp_path, "abc", {"dense": DENSE.measured, "a": SMALL.measured})
    items = json.loads(path.read_text())
    assert (items["split"], items["data_fingerprint"]) == ("test", "abc")
    assert items["models"]["a"] == {"zero_shot": {"predictions": [1, 2]}}
    assert list(items["models"]) == ["dense", "a"]
