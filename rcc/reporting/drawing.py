"""Print lines and tables on a terminal, or as plain text on anything that is not one."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

from rcc.reporting.layout import laid_out
from rcc.reporting.tables import Table


class Terminal(Console):
    """Where a run tells what it does. One whose reader left, as in `rcc-run | head`, goes quiet, and the run goes on:
    hours of work do not end with who looked at them."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say(terminal: Terminal, line: str, style: str = "") -> None:
    """Print one line. Off a terminal it is never folded, so that a log keeps one event a line."""
    terminal.print(Text(writable(terminal, line), style), soft_wrap=not terminal.is_terminal)


def draw(terminal: Terminal, table: Table) -> None:
    """Print a table, cut into several where it is too wide, each with an empty line after it."""
    rule = "─" if writable(terminal, "─") == "─" else "-"
    for lines in laid_out(table, terminal.width):
        for line in lines.head:
            _whole(terminal, line, "bold")
        _whole(terminal, rule * lines.width)
        for line in lines.rows:
            _whole(terminal, line)
        terminal.print()


def _whole(terminal: Terminal, line: str, style: str = "") -> None:
    """A line of a table, which is as long as it must be: never folded, never cut."""
    terminal.print(Text(writable(terminal, line), style), soft_wrap=True)


def writable(terminal: Terminal, text: str) -> str:
    """`text` with what the terminal's encoding lacks replaced, so that no character can fail a run."""
    return text.encode(terminal.encoding, "replace").decode(terminal.encoding)
