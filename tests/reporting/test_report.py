"""report.md: every number it needs, once, in Markdown that renders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys.records import steps_of

from rcc.errors import UserError
from rcc.reporting.left_alone import folded, left_alone
from rcc.reporting.report import ReportContent, markdown, report_text, write_report
from rcc.reporting.tables import Table


@pytest.fixture
def content(summary, delivery) -> ReportContent:
    return ReportContent(
        title="dare → nullu → alpha on clip_tiny, digits",
        command="rcc-run stage=dare+nullu+alpha",
        summary=summary,
        delivery=delivery,
        settings={"stage": {"dare": {"target_sparsity": 0.9, "include": None, "roles": ["mlp"]}}, "seed": 7},
        seed=7,
        environment={"git": {"commit": "abc", "changed": False}, "versions": {"torch": "2.13.0"}},
        notes=("The gate asks for 95 %.",),
    )


def test_the_report_says_what_ran_what_it_gave_and_how_to_use_it(content):
    text = report_text(content)
    assert text.startswith("# dare → nullu → alpha on clip_tiny, digits\n")
    assert "2.50 MB became 900 kB (2.78× smaller at the same dtype)" in text
    assert "keeps 99.50% of the dense model's accuracy on the selection split" in text
    assert "The gate asks for 95 %." in text
    assert 'rcc.load("outputs/2026-11-20/10-00-00/artifact")' in text
    assert "rcc-run job=evaluate artifact=outputs/2026-11-20/10-00-00/artifact" in text


def test_sections_come_in_a_fixed_order(content):
    heads = [line for line in report_text(content).splitlines() if line.startswith("## ")]
    assert heads == [
        "## Steps",
        "## On the test split",
        "## On disk",
        "## What was left alone",
        "## Overlap of subspaces",
        "## Suggestions",
        "## Settings",
    ]


def test_the_test_split_stands_with_errors_and_the_disk_with_both_dense_directories(content):
    text = report_text(content)
    assert "| accuracy (primary) | 99.72% | 99.17% | -0.55 points | higher |\n" in text
    assert "|   interval | 98.5 … 100.0 | 98.0 … 99.4 | -1.9 … +0.5 |  |\n" in text
    assert text.count("95% interval") == 1
    assert "| dense (float32) | 5,050,000 | 5.05 MB | 5.05× |" in text
    assert "| dense (float16) | 2,550,000 | 2.55 MB | 2.55× |" in text


def test_options_at_auto_are_told_with_what_they_came_to(content):
    assert "Options left at `auto` came to: dare solver=admm, allocation=sensitivity." in report_text(content)


def test_failed_attempts_are_named_with_their_reason(content):
    text = report_text(content)
    assert "- dare, attempt 1 at strength 0.9: kept 42.0% of the dense model, less than 95.0%" in text
    assert "- nullu, attempt 1 at strength 0.9: layer fc1 (256, 64) holds NaN" in text


def test_the_overlap_of_a_step_stands_beside_that_of_random_spaces(content, records, summary):
    layers = {"fc1": {"overlap": 0.8}, "fc2": {"overlap": None}}
    numbers = {"mean_overlap": 0.8, "mean_baseline": 0.25, "mean_distance": 0.31, "max_overlap": 0.8}
    measured = replace(records[0], overlap={"layers": layers, **numbers, "critical": ["fc1"]})
    undefined = replace(records[1], overlap={"layers": {}, **dict.fromkeys(numbers), "critical": []})
    text = report_text(replace(content, summary=replace(summary, records=(measured, undefined))))
    assert "| dare | 0.800 | 0.250 | 0.800 | 0.310 | 1 | 1 |" in text
    assert "| nullu | " not in text[text.index("## Overlap") : text.index("## Suggestions")]


def test_an_undefined_overlap_says_why(content, summary):
    reason = "no step both found and left a low-rank part in the same layer"
    text = report_text(replace(content, summary=replace(summary, overlap={"mean": None, "reason": reason})))
    assert f"Undefined: {reason}." in text


def test_without_an_artifact_the_report_says_so_and_leaves_its_sections_out(content):
    text = report_text(replace(content, delivery=None))
    assert "No artifact was written." in text
    assert "## On disk" not in text


def test_settings_are_written_as_overrides_and_the_environment_as_a_list(content):
    text = report_text(content)
    for line in (
        "stage.dare.target_sparsity=0.9",
        "stage.dare.include=null",
        'stage.dare.roles=["mlp"]',
        "seed=7",
        "- git.commit: abc",
        "- git.changed: false",
        "- versions.torch: 2.13.0",
        "Seed 7.",
    ):
        assert line in text.splitlines()


def test_reasons_are_grouped_with_their_stages_folded_names_and_counts(records):
    norm = "role 'norm' is not compressed by default"
    assert left_alone(records).rows == (
        (norm, "dare, nullu", "vision_model.encoder.layers.*.layer_norm1 (2)", "2"),
        ("factors of rank … would not be smaller", "nullu", "text_projection", "1"),
    )


def test_a_stage_is_named_once_when_it_left_the_same_units_alone_in_every_round(records):
    def record(step, reason: str, outcome: str = "kept"):
        return replace(records[2], step=step, outcome=outcome, skipped=(("fc1", reason),) if reason else ())

    steps = steps_of("dare", "nullu", rounds=3)
    reasons = ["always", "always", "always", "not smaller", "always", ""]
    outcomes = ["kept", "kept", "kept", "kept", "kept", "skipped"]
    made = [record(*parts) for parts in zip(steps, reasons, outcomes, strict=True)]
    assert [row[:2] for row in left_alone(made).rows] == [
        ("always", "dare, nullu 1/3"),
        ("not smaller", "nullu 2/3"),
    ]


def test_a_step_that_changed_nothing_is_listed_with_its_reason(content):
    records = content.summary.records
    assert "Steps that changed nothing" not in report_text(content)
    still = replace(records[2], outcome="unchanged", reason="it touched no layer: too small (2)")
    summary = replace(content.summary, records=(*records[:2], still))
    text = report_text(replace(content, summary=summary))
    assert "Steps that changed nothing, or were left out:\n\n- alpha: it touched no layer: too small (2)\n" in text


def test_folding_counts_layers_and_keeps_single_names():
    names = ["a.layers.0.fc1", "a.layers.1.fc1", "a.layers.11.fc2", "a.embedding"]
    assert folded(names) == "a.layers.*.fc1 (2), a.layers.*.fc2 (1), a.embedding"


def test_a_bar_in_a_cell_does_not_break_the_table():
    table = Table(("name", "value"), (("|w|·‖x‖", "1"),))
    assert markdown(table) == "| name | value |\n| :-- | --: |\n| \\|w\\|·‖x‖ | 1 |"


def test_a_report_is_replaced_as_a_whole_and_leaves_no_draft(tmp_path, content):
    (tmp_path / "report.md").write_text("old")
    path = write_report(tmp_path, content)
    assert path.read_text(encoding="utf-8") == report_text(content)
    assert [file.name for file in tmp_path.iterdir()] == ["report.md"]


def test_a_report_that_cannot_be_written_names_the_file_and_keeps_nothing(tmp_path, content):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UserError, match=r"cannot write .*report\.md"):
        write_report(tmp_path / "file", content)
