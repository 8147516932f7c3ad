"""Lines and tables on a terminal, or as plain text on anything that is not one."""

from __future__ import annotations

from typing import Literal

import rich.box
from rich.align import Align
from rich.console import Console as Terminal
from rich.table import Table as RichTable
from rich.text import Text

from rcc.reporting.tables import SOFT_HYPHEN, Table

WIDE = 100  # columns from which tables have room for wider gaps


def say(terminal: Terminal, line: str, style: str = "") -> None:
    """Print one line. Off a terminal it is never folded, so that a log keeps one event a line."""
    terminal.print(Text(writable(terminal, line), style), soft_wrap=not terminal.is_terminal)


def draw(terminal: Terminal, table: Table) -> None:
    """Draw a table and an empty line. Where room is short, names fold and numbers stay whole."""
    gap = 1 if terminal.width >= WIDE else 0
    drawn = RichTable(box=rich.box.SIMPLE_HEAD, padding=(0, gap, 0, 0), show_edge=False, pad_edge=False)
    for number, name in enumerate(table.head):
        side: Literal["left", "right"] = "left" if number < table.left else "right"
        head = writable(terminal, _broken(name, gap == 0))
        drawn.add_column(
            Align(Text(head, justify=side), side, vertical="bottom"),
            justify=side,
            overflow="fold",
            no_wrap=side == "right",
            min_width=max(map(len, head.split("\n"))),
        )
    for row in table.rows:
        drawn.add_row(*(Text(writable(terminal, cell)) for cell in row))
    terminal.print(drawn)
    terminal.print()


def _broken(name: str, narrow: bool) -> str:
    """A column's name on as many lines as it has parts."""
    name = name.replace(SOFT_HYPHEN, "-" if narrow else "")
    return name.replace(" ", "\n").replace("-", "-\n")


def writable(terminal: Terminal, text: str) -> str:
    """`text` with what the terminal's encoding lacks replaced, so that no character can fail a run."""
    return text.encode(terminal.encoding, "replace").decode(terminal.encoding)
