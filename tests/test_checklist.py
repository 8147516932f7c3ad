"""The checklist names tests that exist, and every row that was asked for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/checklist.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)(?:::(\w+))?`", PAGE)


def test_every_row_is_there_and_shown_by_something() -> None:
    rows = re.findall(r"^\| ([CM]\d+) \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert [row for row, _ in rows] == [*(f"C{row}" for row in range(1, 16)), *(f"M{row}" for row in range(1, 23))]
    assert all("`" in shown or "not built" in shown or "benchmarks (" in shown for _, shown in rows)


def test_every_test_and_program_that_is_named_exists() -> None:
    assert len(NAMED) > 40
    for path, name in NAMED:
        assert (ROOT / path).is_file(), path
        if name:
            functions = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
            assert name in {each.name for each in functions if isinstance(each, ast.FunctionDef)}, f"{path}::{name}"
