"""Tables are converted as the library does it, a few rows at a time, and none that expand without end."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value, load_dataset

from rcc.data.files.conversion import ROWS, converted
from rcc.errors import UserError
from rcc.limits import limits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def write(file: Path, kind: str, table: pa.Table) -> dict[str, list[str]]:
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=150)
    else:
        with pa.ipc.new_stream(file, table.schema) as sink:
            sink.write_table(table)
    return {"train": [str(file)]}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_the_tables_are_the_librarys(kind: str, tmp_path: Path) -> None:
    features = Features({"image": Image(), "caption": Value("string")})
    count = 5 * ROWS + 3
    cells = {
        "image": [{"bytes": b"%d" % number, "path": None} for number in range(count)],
        "caption": [f"caption {number}" for number in range(count)],
    }
    files = write(tmp_path / f"a.{kind}", kind, pa.table(cells, schema=features.arrow_schema))
    ours, theirs = converted(kind, files)["train"], load_dataset(kind, data_files=files)["train"]
    assert ours.features == theirs.features == features
    assert ours.with_format("arrow")[:].equals(theirs.with_format("arrow")[:])


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_beyond_what_their_file_justifies_are_refused_and_leave_no_cache(
    kind: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "slack", 1000)
    monkeypatch.setattr(limits, "expansion_of_tables", 3 if kind == "parquet" else 0)
    files = write(tmp_path / f"a.{kind}", kind, pa.table({"caption": ["x" * 1000] * 300}))
    with pytest.raises(UserError, match=rf"a\.{kind} has \d+ bytes and its rows more.*limits\.expansion_of_tables"):
        converted(kind, files)
    assert [path for path in cache.rglob("*") if path.suffix == ".arrow"] == []
    monkeypatch.setattr(limits, "slack", 10**6)
    assert len(converted(kind, files)["train"]) == 300


def test_a_bomb_of_a_terabyte_is_refused_before_it_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "slack", 100_000_000)
    rows = pa.array([0] * 1_000_000, pa.int32())
    table = pa.table({"image": pa.DictionaryArray.from_arrays(rows, pa.array([b"x" * 1_000_000]))})
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(table, bomb)  # in one group of rows
    assert bomb.stat().st_size < 1_000_000
    started = time.process_time()
    with pytest.raises(UserError, match="as rows do that all name one large value"):
        converted("parquet", {"train": [str(bomb)]})
    assert pa.default_memory_pool().max_memory() < 1_000_000_000
    assert time.process_time() - started < 20
