"""data=documents: BEIR's layout, and a file of documents alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rcc.data.registry import load_data
from rcc.errors import UserError


@pytest.fixture
def folder(data_set: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(data_set("documents"), tmp_path / "documents"))


def test_a_folder_of_beirs_layout_is_read(folder: Path) -> None:
    found = load_data("documents", path=str(folder))
    assert found.sizes() == {"train": 6, "calibration": 5, "selection": 1, "test": 3}
    assert found.corpus is not None
    assert found.corpus.items([0], ["texts", "titles"]) == {"texts": ["a dog dog a photo of a"], "titles": ["a dog"]}
    assert found.notes == (
        "1 documents are empty: 'd23'.",
        "1 queries have no relevant document and were left out.",
    )


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_a_file_of_documents_alone_is_read(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"docs.{kind}"
    rows = [{"id": number, "content": f"text {number}"} for number in range(8)]
    mark = {"csv": ",", "tsv": "\t"}.get(kind, "")
    lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
    file.write_text("\n".join(map(json.dumps, rows) if kind == "jsonl" else lines))
    found = load_data("documents", path=str(file))
    assert found.sizes() == {"train": 2, "calibration": 2, "selection": 2, "test": 2}
    assert found.corpus is not None
    assert found.corpus.input.name(3) == "3"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: (path / "corpus.jsonl").unlink(), r"holds no corpus.jsonl.*Found: 'qrels/', 'queries.jsonl'"),
        (lambda path: (path / "queries.jsonl").unlink(), r"holds qrels/\*.tsv and not the other"),
        (lambda path: shutil.rmtree(path / "qrels"), r"holds queries.jsonl and not the other"),
        (lambda path: (path / "corpus.jsonl").write_text('{"_id": "a"}'), "line 1 of .* has no 'text'"),
        (lambda path: (path / "corpus.jsonl").write_text('{"_id": "a", "text": 3.5}'), "'text' of the line is 3.5"),
        (lambda path: (path / "corpus.jsonl").write_text(""), "there are no documents"),
        (lambda path: (path / "qrels/extra.test.tsv").write_text("q0\td0\t1"), "is of the part 'test', and so is"),
        (lambda path: (path / "queries.jsonl").write_text('{"_id":"q0","text":"a"}\n{"_id":"q0","text":"b"}'),
         "names the query 'q0' a second time"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused_with_what_there_is(
    change: Callable[[Path], object], said: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(UserError, match=said):
        load_data("documents", path=str(folder))
    with pytest.raises(UserError, match=r"needs the place of its files: give data.path"):
        load_data("documents")
