"""data=cranfield: judgements count the queries by their position, whatever numbers these carry."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rcc.data.registry import load_data
from rcc.errors import UserError

CRANFIELD = Path(os.environ.get("RCC_DATA", "/nowhere")) / "cranfield"


def test_judgements_are_joined_by_position_and_by_number_only_where_asked(data_set: Callable[[str], Path]) -> None:
    path = str(data_set("cranfield"))
    found = load_data("cranfield", path=path, selection=1)
    judged = {
        split.items([place], ["texts"])["texts"][0]: split.items([place], ["judgements"])["judgements"][0]
        for split in (found.selection, found.test)
        for place in range(len(split))
    }
    assert len(judged) == 4
    assert judged["the cat is red"] == (("d1", 1), ("d5", 1), ("d9", 0))  # it carries number 2 and is the second
    assert judged["the digit is red"] == (("d10", 0), ("d2", 1), ("d6", 1))  # it carries number 4 and is the third
    wrong = load_data("cranfield", path=path, join="number", selection=1)
    assert any("judgements of queries or documents that are not there were left out" in note for note in wrong.notes)
    assert wrong.fingerprint != found.fingerprint


def test_a_missing_or_odd_file_is_named(data_set: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data_set("cranfield"), tmp_path / "cranfield"))
    with pytest.raises(UserError, match=r"join: .*'nomber'|unknown join 'nomber'"):
        load_data("cranfield", path=str(folder), join="nomber")
    (folder / "cran.qry.xml").write_text("nothing")
    with pytest.raises(UserError, match=r"cran.qry.xml' holds no <top>"):
        load_data("cranfield", path=str(folder))
    (folder / "qrels.txt").unlink()
    with pytest.raises(UserError, match=r"lacks qrels.txt"):
        load_data("cranfield", path=str(folder))


@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="RCC_DATA names no folder with cranfield")
def test_the_published_collection_loads_with_its_defaults() -> None:
    found = load_data("cranfield", path=str(CRANFIELD))
    assert found.sizes() == {"train": 532, "calibration": 256, "selection": 41, "test": 84}
    assert found.corpus is not None
    assert len(found.corpus) == 1400
    assert found.notes[:2] == (
        "2 documents are empty: '471', '995'.",
        "100 queries have no relevant document and were left out.",
    )
