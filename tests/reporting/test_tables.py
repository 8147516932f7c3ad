"""The rows that console and report share."""

from __future__ import annotations

from dataclasses import replace

from toys.records import steps_of

from rcc.measurement import Difference, Metric
from rcc.reporting.tables import notes_of, quality_table, short_name, size_table, step_table


def test_the_step_table_starts_dense_and_gives_the_model_after_every_step(baseline, records):
    table = step_table(baseline, records)
    assert table.head[4] == "accuracy"
    assert table.rows == (
        ("dense", "-", "-", "100.00%", "99.72%", "2.50 MB", "1.00×", "1.25 M", "1.25 s", "-"),
        ("dare", "kept", "0.45", "99.00%", "98.72%", "900 kB", "2.78×", "450 k", "5.00 s", "400 MB"),
        ("nullu", "skipped", "0.9", "99.00%", "98.72%", "900 kB", "2.78×", "450 k", "3.00 s", "500 MB"),
        ("alpha", "kept", "-", "99.50%", "99.22%", "900 kB", "2.78×", "450 k", "2.50 s", "400 MB"),
    )
    assert all(len(row) == len(table.head) for row in table.rows)


def test_rounds_show_in_the_name_only_when_there_are_several():
    assert [short_name(step) for step in steps_of("dare", "dare_2", rounds=2)] == [
        "dare 1/2",
        "dare_2 1/2",
        "dare 2/2",
        "dare_2 2/2",
    ]
    assert short_name(steps_of("dare")[0]) == "dare"


def test_the_quality_table_compares_each_metric_and_knows_its_direction(delivery):
    latency = Metric("latency", 12.5, "ms", higher_is_better=False)
    dense = replace(delivery.dense, metrics=(*delivery.dense.metrics, latency, Metric("extra", 1.0)))
    faster = replace(latency, value=10.0)
    compressed = replace(delivery.compressed, metrics=(*delivery.compressed.metrics, faster, Metric("speedup", 2, "×")))
    differences = {**delivery.differences, "latency": Difference(-2.5)}
    assert quality_table(replace(delivery, dense=dense, compressed=compressed, differences=differences)).rows == (
        ("accuracy (primary)", "99.72%", "99.17%", "-0.55 points", "higher"),
        ("  interval", "98.5 … 100.0", "98.0 … 99.4", "-1.9 … +0.5", ""),
        ("top5_accuracy", "100.00%", "100.00%", "+0.00 points", "higher"),
        ("latency", "12.5 ms", "10 ms", "-2.5 ms", "lower"),
        ("speedup", "-", "2.00×", "-", "higher"),
        ("extra", "1", "-", "-", "higher"),
    )


def test_the_size_table_gives_exact_bytes_and_ratios_against_both_dense_directories(delivery):
    assert size_table(delivery).rows == (
        ("artifact (float16)", "1,000,000", "1.00 MB", "-"),
        ("dense (float32)", "5,050,000", "5.05 MB", "5.05×"),
        ("dense (float16)", "2,550,000", "2.55 MB", "2.55×"),
    )


def test_notes_of_evaluators_are_told_once(delivery):
    dense = replace(delivery.dense, details={"a": {"note": "One thread."}, "b": {"note": "Java's words."}, "c": {}})
    compressed = replace(delivery.compressed, details={"a": {"note": "One thread."}})
    assert notes_of([dense, compressed]) == ["One thread.", "Java's words."]
