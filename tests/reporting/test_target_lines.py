"""A target in bytes in words, on the console and in the report."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console as Terminal

from rcc.cascade.records import TargetOutcome
from rcc.reporting.console import Console
from rcc.reporting.report import ReportContent, report_text
from rcc.reporting.target import off_text, repeated_text, target_text


def test_the_difference_is_in_per_cent_of_the_target() -> None:
    assert off_text(1012, 1000) == "1.20% above"
    assert off_text(995, 1000) == "0.50% below"
    assert off_text(1000, 1000) == "exactly"


def test_what_was_asked_what_was_reached_and_why_not_more() -> None:
    met = target_text(TargetOutcome(100_000, 100_100, 2), 100_200)
    assert met == "Target: 100,000 bytes. Reached: 100,200 bytes, 0.20% above. The last round was done again 2 times."
    assert target_text(TargetOutcome(100_000, 100_100, 0), 100_200).endswith("0.20% above.")
    assert target_text(TargetOutcome(100_000, 1, 1), 100_200).endswith("was done again once.")
    missed = target_text(TargetOutcome(100_000, 150_000, 0, "the gate softened dare"), 150_000)
    assert missed.endswith("50.00% above. The target is missed because the gate softened dare.")


def test_the_console_says_why_steps_are_done_again_and_what_came_of_the_target(steps, summary, delivery) -> None:
    console = Console(Terminal(file=io.StringIO(), width=300))
    outcome = TargetOutcome(1_000_000, 1_050_000, 0)
    console.run_started(steps, 0)
    console.round_repeated(steps[1:], outcome)
    console.delivered(replace(delivery, target=replace(outcome, repeats=1)))
    said = console.terminal.file.getvalue()  # type: ignore[attr-defined]
    assert repeated_text(outcome, steps[1].name) in said
    assert "would take 1,050,000 bytes, 5.00% above the target of 1,000,000" in said
    assert target_text(replace(outcome, repeats=1), delivery.nbytes) in said


def test_the_time_left_counts_the_steps_that_are_done_again(steps, summary) -> None:
    now = [0.0]
    console = Console(Terminal(file=io.StringIO()), clock=lambda: now[0])
    console.run_started(steps, 0)
    for step in steps:
        console.time_left.step_started(step)
        now[0] += 2
        console.time_left.step_finished(step)
    assert console.time_left.left == 0
    console.round_repeated(steps[1:], TargetOutcome(1000, 1100, 0))
    assert console.time_left.left == 2 * (len(steps) - 1)


def test_the_report_states_the_target_only_where_there_was_one(summary, delivery) -> None:
    content = ReportContent("title", "rcc-run", summary, delivery)
    assert "Target:" not in report_text(content)
    targeted = replace(delivery, target=TargetOutcome(1_000_000, 999_000, 0))
    assert target_text(targeted.target, delivery.nbytes) in report_text(replace(content, delivery=targeted))
