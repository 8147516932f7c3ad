"""Read judgements of relevance: TREC's qrels (query, 0, document, grade) and BEIR's tables (query, document, grade)."""

from __future__ import annotations

from pathlib import Path

from rcc.errors import UserError
from rcc.limits import read_lines

HIGHEST = 1000
"""Grades that are read; gains are sums of them."""


def read_judgements(dataset: str, file: Path) -> dict[str, dict[str, int]]:
    """Query to document to grade, in the order of the lines. A first line that ends in no number names the columns.

    Raises:
        UserError: a line of another layout, a grade that is no whole number, or a document judged twice otherwise.
    """
    found: dict[str, dict[str, int]] = {}
    try:
        for number, line in enumerate(read_lines(file), 1):
            parts = line.split()
            if not parts or (number == 1 and not _whole(parts[-1])):
                continue
            if len(parts) not in (3, 4) or not _whole(parts[-1]) or abs(int(parts[-1])) > HIGHEST:
                raise UserError(
                    f"data '{dataset}': line {number} of '{file}' is no judgement. Each is a query, a document and a"
                    f" grade, a whole number up to {HIGHEST}; with a column of zeros between the first two, as TREC has"
                    " it, or without."
                )
            query, document, grade = parts[0], parts[-2], int(parts[-1])
            if found.setdefault(query, {}).setdefault(document, grade) != grade:
                raise UserError(
                    f"data '{dataset}': line {number} of '{file}' judges document '{document}' for query '{query}' anew"
                    " and otherwise. Leave one of the two lines."
                )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data '{dataset}': '{file}' cannot be read: {error}.") from error
    return found


def _whole(text: str) -> bool:
    return text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 10
