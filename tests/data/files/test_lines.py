"""CSV, TSV and JSONL files, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcc.data.files.lines import read_records
from rcc.errors import UserError


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("a.jsonl", '{"id": "1", "text": "a"}\n\n{"id": "2", "text": "b"}\n', [1, 3]),
        ("a.csv", "id,text\n1,a\n2,b\n", [2, 3]),
        ("a.tsv", "id\ttext\n1\ta\n2\tb\n", [2, 3]),
    ],
)
def test_each_line_is_a_record_with_its_number(name: str, text: str, numbers: list[int], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert list(read_records("d", tmp_path / name)) == list(zip(numbers, rows, strict=True))


@pytest.mark.parametrize("text", ["[1]\n", "{\n", "[" * 100_000])
def test_a_line_that_is_no_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"data 'd': '.*a.jsonl' cannot be read: line 1 is no"):
        list(read_records("d", tmp_path / "a.jsonl"))
