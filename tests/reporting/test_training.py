"""A training on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console as Terminal

from rcc.reporting.training import TrainingDisplay


def shown(terminal: bool, first: int = 1) -> str:
    output, times = io.StringIO(), iter([0.0, 0.0, 60.0, 100.0, 180.0])
    drawn = Terminal(file=output, force_terminal=terminal, width=100)
    with TrainingDisplay(drawn, clock=lambda: next(times)) as display:
        for done in range(first, first + 2):
            display.finished(done, 4, f"loss {done}.000")
    return output.getvalue()


def test_a_log_gets_a_line_an_epoch_with_the_time_left() -> None:
    assert shown(False) == "epoch 1 of 4: loss 1.000, 3:00 left\nepoch 2 of 4: loss 2.000, 1:40 left\n"


def test_a_resumed_training_goes_by_the_epochs_of_its_own() -> None:
    assert shown(False, first=3) == "epoch 3 of 4: loss 3.000, 1:00 left\nepoch 4 of 4: loss 4.000\n"


def test_a_terminal_gets_a_bar() -> None:
    text = shown(True)
    assert "training" in text
    assert "loss 2.000" in text
    assert "epoch 1 of 4" not in text
