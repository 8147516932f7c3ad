"""Read CSV, TSV and JSONL files line by line, each a record with its number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rcc.data.files.records import NOT_LAID_OUT, reason, told
from rcc.errors import UserError
from rcc.limits import read_lines

FORMATS = (".csv", ".tsv", ".jsonl")


def read_records(dataset: str, file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line as a record, with its number.

    Raises:
        UserError: the file cannot be read, or a line is no record.
    """
    try:
        lines = read_lines(file, newline="")
        if file.suffix.lower() == ".jsonl":
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _record(line, number)
        else:
            dialect: type[csv.Dialect] = csv.excel_tab if file.suffix.lower() == ".tsv" else csv.excel
            reader = csv.DictReader(lines, dialect=dialect)
            for row in reader:
                yield reader.line_num, row
    except (*NOT_LAID_OUT, csv.Error) as error:
        raise UserError(f"data '{dataset}': '{file}' cannot be read: {error}.") from error


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON ({reason(error)})") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is no record but {told(record)}")
    return record
