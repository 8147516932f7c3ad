"""Segments: files that a few lines can read, checked by their lengths, with the dead told by a bit each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcc import EmbeddingStore, UserError
from rcc.store.manifest import SegmentEntry
from rcc.store.segment import Segment, write_dead, write_segment


def names(count: int) -> list[str]:
    return [f"item {place}" for place in range(count)]


def vectors(count: int) -> Any:
    rows = np.random.default_rng(0).normal(size=(count, 70)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written(folder: Path, rows: Any) -> SegmentEntry:
    blocks = iter([rows[:4], rows[4:]])
    described = ({"id": name, "place": place} for place, name in enumerate(names(len(rows))))
    return write_segment(folder, "segment-00000001", rows.shape[1], len(rows), blocks, described)


def test_its_files_are_what_the_page_says(tmp_path: Path) -> None:
    rows = vectors(9)
    written(tmp_path, rows)
    place = tmp_path / "segment-00000001"
    np.testing.assert_array_equal(np.fromfile(place / "vectors", "<f4").reshape(9, 70), rows)
    mean = np.fromfile(place / "mean", "<f4")
    np.testing.assert_allclose(mean, rows.mean(0), atol=1e-7)
    codes = np.fromfile(place / "codes", "<u8").reshape(9, 2)
    for row, code in zip(rows, codes, strict=True):
        bits = [int(code[place // 64] >> np.uint64(place % 64)) & 1 for place in range(128)]
        assert bits == [*(row > mean).astype(int), *[0] * 58]
    lines = [json.loads(line) for line in (place / "rows").read_text().splitlines()]
    assert lines == [{"id": f"item {number}", "place": number} for number in range(9)]


def test_dead_rows_are_neither_chosen_nor_placed(tmp_path: Path) -> None:
    entry = written(tmp_path, vectors(9))
    dead = Segment(tmp_path, entry, 70).with_dead([0, 8])
    write_dead(tmp_path, "segment-00000001.dead-00000002", dead)
    entry = SegmentEntry(entry.name, 9, "segment-00000001.dead-00000002", 2)
    segment = Segment(tmp_path, entry, 70)
    chosen = segment.chosen([])
    assert chosen is not None
    assert chosen.tolist() == list(range(1, 8))
    assert list(segment.places) == names(9)[1:8]
    assert segment.with_dead([3]).sum() == 3


@pytest.mark.parametrize("file", ["vectors", "codes", "mean", "rows"])
@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_file_of_another_length_is_told(file: str, content: bytes, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.add(names(2), vectors(2))
    (tmp_path / store.manifest.segments[0].name / file).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        EmbeddingStore(tmp_path).search(vectors(1))
