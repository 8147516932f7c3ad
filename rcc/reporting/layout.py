"""Lay a table out as lines of a given width, with every number and every word of a name whole.

Too wide a table is narrowed in this order: heads go onto several lines, broken between words; then names longer than
`SHORT` do; then the table is cut into several of fewer columns, each beginning with the first one. What still does not
fit, such as a name of one long word, runs over the width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from rich.cells import cell_len

from rcc.reporting.tables import Table

SHORT = 16  # characters up to which the text of a cell stays on one line
GAPS = (2, 1)  # blanks between columns, where there is room and where there is not
INDENT = "  "  # before the further lines of a cell, so that they do not read as rows of their own
# Behind blanks, and behind punctuation that a letter follows: recall_at_1 and 2/3 keep their numbers beside them.
_BREAK = re.compile(r"(?<=\s)|(?<=[_./,-])(?=[^\W\d_])")


@dataclass(frozen=True)
class Lines:
    """A table as lines of text: those of its head, those of its rows, and the characters it takes across."""

    head: list[str]
    rows: list[str]
    width: int


def laid_out(table: Table, width: int) -> list[Lines]:
    """The lines of the table, or of each of the tables that it is cut into."""
    return [_lines(part, width) for part in _parts(table, width)]


def least_width(table: Table) -> int:
    """Characters that the table needs across if it is not to be cut into several."""
    return _across([least for least, _ in _ranges(table)], GAPS[-1])


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """`text` on lines of at most `width`, where its words allow that; all but the first begin with `indent`."""
    lines, line = [], ""
    for piece in _BREAK.split(text):
        if line.strip() and cell_len((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = indent
        line += piece
    return [*lines, line.rstrip()]


def _parts(table: Table, width: int) -> list[Table]:
    """The fewest tables that fit, of about as many columns each."""
    parts = [table]
    others = len(table.head) - 1
    for count in range(2, others + 1):
        if all(least_width(part) <= width for part in parts):
            break
        bounds = [1 + number * others // count for number in range(count + 1)]
        parts = [_with_columns(table, range(start, end)) for start, end in pairwise(bounds)]
    return parts


def _with_columns(table: Table, columns: range) -> Table:
    """The first column and these."""
    left = 1 + sum(column < table.left for column in columns)
    head, *rows = ((line[0], *line[columns.start : columns.stop]) for line in (table.head, *table.rows))
    return Table(head, tuple(rows), left)


def _ranges(table: Table) -> list[tuple[int, int]]:
    """For each column the width it needs at least, and the width at which only its head is broken."""
    found = []
    for number, (head, *cells) in enumerate(zip(table.head, *table.rows, strict=True)):
        words = max(map(cell_len, wrapped(head, 0)))
        whole = max([words, *map(cell_len, cells)])
        least = max([words, *map(_least, cells)]) if number < table.left else whole
        found.append((least, whole))
    return found


def _least(cell: str) -> int:
    return cell_len(cell) if cell_len(cell) <= SHORT else max(SHORT, *map(cell_len, wrapped(cell, 0, INDENT)))


def _widths(table: Table, width: int) -> tuple[list[int], int]:
    """Of the columns, and of the gap between them."""
    least, whole = map(list, zip(*_ranges(table), strict=True))
    open_heads = [max(cell_len(head), across) for head, across in zip(table.head, whole, strict=True)]
    for widths in (open_heads, whole):
        for gap in GAPS:
            if _across(widths, gap) <= width:
                return widths, gap
    widths, gap = whole, GAPS[-1]
    while _across(widths, gap) > width and widths != least:
        widest = max((each for each in range(len(widths)) if widths[each] > least[each]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths, gap


def _across(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _lines(table: Table, width: int) -> Lines:
    widths, gap = _widths(table, width)
    heads = [wrapped(head, across) for head, across in zip(table.head, widths, strict=True)]
    tallest = max(map(len, heads))
    heads = [[""] * (tallest - len(head)) + head for head in heads]  # a short head stands right above its numbers
    rows = [
        [
            _balanced(cell, across) if number < table.left else [cell]
            for number, (cell, across) in enumerate(zip(row, widths, strict=True))
        ]
        for row in table.rows
    ]
    widths = [max(cell_len(line) for cell in column for line in cell) for column in zip(heads, *rows, strict=True)]

    def joined(cells: Sequence[str]) -> str:
        blanks = [" " * (across - cell_len(text)) for text, across in zip(cells, widths, strict=True)]
        filled = zip(cells, blanks, strict=True)
        placed = (text + blank if number < table.left else blank + text for number, (text, blank) in enumerate(filled))
        return (" " * gap).join(placed).rstrip()

    head, *body = ([joined(cells) for cells in zip_longest(*row, fillvalue="")] for row in (heads, *rows))
    return Lines(head, [line for lines in body for line in lines], _across(widths, gap))


def _balanced(cell: str, width: int) -> list[str]:
    """The cell on as few lines as `width` allows, of about one length: not one word alone under a full line."""
    lines = wrapped(cell, width, INDENT)
    while len(lines) > 1 and len(closer := wrapped(cell, width - 1, INDENT)) == len(lines):
        if max(map(cell_len, closer)) >= width:
            break
        lines, width = closer, width - 1
    return lines
