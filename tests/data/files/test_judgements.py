"""Judgements in TREC's and in BEIR's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcc.data.files.judgements import read_judgements
from rcc.errors import UserError


@pytest.mark.parametrize(
    "text", ["1 0 d1 2\n1 0 d2 0\n\n2 0 d1 -1\n", "query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n2\td1\t-1"]
)
def test_both_layouts_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text(text)
    assert read_judgements("d", tmp_path / "qrels") == {"1": {"d1": 2, "d2": 0}, "2": {"d1": -1}}


@pytest.mark.parametrize(
    "text", ["1 0 d1 2\n1 d2\n", "1 0 d1 2.5\n1 0 d2 0.5", "1 0 d1 1\n1 0 d1 2", "1 0 d1 9999\n1 0 d 9999"]
)
def test_anything_else_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(UserError, match=r"data 'd': line \d of '.*qrels'"):
        read_judgements("d", tmp_path / "qrels")
    with pytest.raises(UserError, match="cannot be read"):
        read_judgements("d", tmp_path / "none")
