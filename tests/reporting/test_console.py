"""The console: plain lines off a terminal, a live display on one, and tables that fit 80 columns."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console as Terminal
from toys.records import attempt_at, measured, sized, steps_of

from rcc.cascade.records import Attempt, Baseline, StepRecord
from rcc.measurement import Measurement, Metric
from rcc.reporting.console import Console

CONTROL = re.compile(r"\x1b|\r")


def play(console: Console, steps, baseline, records, summary, delivery) -> None:
    console.run_started(steps, 0)
    console.baseline_measured(baseline)
    for record in records:
        for attempt in record.attempts:
            console.step_started(record.step, attempt.number, attempt.strength)
            console.progressed(7, 12, "layers")
            console.attempt_finished(record.step, attempt)
        console.step_finished(record)
    console.run_finished(summary)
    console.delivered(delivery)
    console.close()


@pytest.fixture
def run(steps, baseline, records, summary, delivery):
    return steps, baseline, records, summary, delivery


@pytest.fixture
def plain() -> Console:
    return Console(Terminal(file=io.StringIO(), width=80))


def output(console: Console) -> str:
    return console.terminal.file.getvalue()


def test_off_a_terminal_every_event_is_one_plain_line(plain, run):
    play(plain, *run)
    lines = output(plain).splitlines()
    assert not CONTROL.search(output(plain))
    assert lines[:7] == [
        "dense model: accuracy 99.72% (98.5 … 100.0), 2.50 MB",
        "[1/3] dare, attempt 1 at strength 0.9 failed: kept 42.0% of the dense model, less than 95.0% (2.50 s)",
        "[1/3] dare: backing off to strength 0.45",
        "[1/3] dare kept at strength 0.45: accuracy 98.72%, retention 99.00%, 900 kB (2.78× smaller), 5.00 s",
        "[2/3] nullu, attempt 1 at strength 0.9 failed: layer fc1 (256, 64) holds NaN (3.00 s)",
        "[2/3] nullu skipped and rolled back: layer fc1 (256, 64) holds NaN",
        "[3/3] alpha kept: accuracy 99.22%, retention 99.50%, 900 kB (2.78× smaller), 2.50 s",
    ]
    assert any(line.startswith("Suggestion: nullu was rolled back") for line in lines)
    assert lines[-1] == (
        "Measure it again: rcc-run job=evaluate artifact=outputs/2026-11-20/10-00-00/artifact data=cifar10"
    )


def test_the_final_tables_fit_80_columns_with_every_number_whole(plain, run):
    play(plain, *run)
    lines = output(plain).splitlines()
    [dare] = [line for line in lines if line.startswith("dare ")]
    assert dare.split("  ")[0] == "dare"
    assert " ".join(dare.split()) == "dare kept 0.45 99.00% 98.72% 900 kB 2.78× 450 k 5.00 s 400 MB"
    table = lines[lines.index("") : next(i for i, line in enumerate(lines) if line.startswith("Suggestion"))]
    assert max(map(len, table)) <= 80
    assert any("dense (float32)" in line and "5.05×" in line for line in lines)


def rounds(summary, baseline, *labels: str):
    steps = steps_of(*labels, rounds=12)
    records = tuple(StepRecord(s, "continued", (), sized(900_000), 0.99, measured(0.98)) for s in steps)
    return type(summary)(baseline, records, sized(900_000), 0.99, 1.0)


def test_a_step_table_that_is_too_wide_goes_on_in_another_with_every_step_and_number_whole(plain, summary, baseline):
    plain.run_finished(rounds(summary, baseline, "dare", "nullu_long_label"))
    lines = output(plain).splitlines()
    assert max(map(len, lines)) <= 80
    assert "step                    outcome    strength  retention  accuracy" in lines
    assert "step                       size  times smaller  non-zeros    time  peak memory" in lines
    assert sum("continued" in line and "99.00%" in line for line in lines) == 24
    assert sum("900 kB" in line for line in lines) == 24
    assert sum(line.startswith("nullu_long_label 12/12 ") for line in lines) == 2


def test_a_wide_terminal_shows_every_column_name_on_one_line(summary, baseline):
    wide = Console(Terminal(file=io.StringIO(), width=120))
    wide.run_finished(rounds(summary, baseline, "dare"))
    [head] = [line for line in output(wide).splitlines() if "retention" in line]
    assert re.split(r"\s{2,}", head) == [
        *("step", "outcome", "strength", "retention", "accuracy", "size", "times smaller", "non-zeros"),
        *("time", "peak memory"),
    ]


def test_a_resumed_run_says_what_was_done_and_what_is_left(plain, steps):
    plain.run_started(steps, 1)
    assert output(plain) == "Resumed: 1 of 3 steps were done before. Still to do: nullu, alpha.\n"


def test_text_from_the_run_is_never_read_as_markup(plain, steps):
    problem = "[bold]x[/bold] :smile:"
    broken = Attempt(1, None, 1.0, 0, problem=problem)
    plain.run_started(steps, 0)
    plain.step_started(steps[0], 1, None)
    plain.step_finished(StepRecord(steps[0], "skipped", (broken,), sized(1), 1.0, measured(1.0)))
    assert output(plain) == f"[1/3] dare skipped and rolled back: {problem}\n"


def test_on_a_terminal_the_display_shows_where_the_run_is_and_the_cursor_comes_back(run):
    terminal = Terminal(file=io.StringIO(), width=80, force_terminal=True)
    play(Console(terminal), *run)
    shown = terminal.file.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "step 1 of 3" in text
    assert "0:00 gone, -:-- left" in text
    assert "dare at strength 0.9" in text
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_closing_after_a_failure_gives_the_cursor_back_without_a_table(steps):
    terminal = Terminal(file=io.StringIO(), width=80, force_terminal=True)
    console = Console(terminal)
    console.run_started(steps, 0)
    console.close(failed=True)
    shown = terminal.file.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert "retention" not in shown


def test_a_terminal_that_cannot_write_a_character_gets_another(run):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    play(Console(Terminal(file=stream, width=80)), *run)
    stream.flush()
    assert b"2.78? smaller" in raw.getvalue()


def test_a_lower_is_better_metric_keeps_its_unit(plain):
    loss = Measurement((Metric("loss", 0.125, "nats", higher_is_better=False),), "loss")
    plain.baseline_measured(Baseline(loss, sized(1000)))
    assert output(plain) == "dense model: loss 0.125 nats, 1.00 kB\n"


def test_a_step_that_changed_nothing_is_not_called_kept(plain, steps, baseline) -> None:
    why = "it touched no layer: too small (2)"
    plain.run_started(steps, 0)
    plain.step_finished(StepRecord(steps[0], "unchanged", (attempt_at(0.5),), sized(1), 1.0, measured(1.0), reason=why))
    assert output(plain).split() == f"[1/3] dare unchanged at strength 0.5: {why} (2.50 s)".split()


def test_a_step_without_a_strength_is_tried_again_with_finer_steps(plain, steps, baseline):
    plain.run_started(steps, 0)
    plain.baseline_measured(baseline)
    plain.step_started(steps[2], 2, None)
    assert output(plain).splitlines()[-1] == "[3/3] alpha: trying finer steps"
