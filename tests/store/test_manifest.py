"""The manifest of a store: what it says is checked before anything else is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcc import EmbeddingStore, UserError
from rcc.store.manifest import SegmentEntry, StoreManifest, read_manifest


def names(count: int) -> list[str]:
    return [f"item {place}" for place in range(count)]


def vectors(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 5))


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    entries = (
        SegmentEntry("segment-00000001", 5),
        SegmentEntry("segment-00000004", 9, "segment-00000004.dead-00000006", 2),
    )
    manifest = StoreManifest("text", 384, "a" * 64, "../artifact", 6, {"year": "number"}, entries)
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.rows == 12


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 0}, {"dimensions": 10**9}, {"dimensions": "5"}, {"segments": [{}]}, {"segments": 3},
        {"version": 9}, {"generation": None}, {"fields": {"a": 3}},
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    EmbeddingStore(tmp_path).add(names(2), vectors(2))
    content = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=r"store\.json|segment-"):
        EmbeddingStore(tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "segment-1", "/etc", "segment-00000001/.."])
def test_a_manifest_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    EmbeddingStore(tmp_path).add(names(2), vectors(2))
    content = json.loads((tmp_path / "store.json").read_text())
    for key in ("name", "dead"):
        entry = content["segments"][0] | {key: name}
        (tmp_path / "store.json").write_text(json.dumps(content | {"segments": [entry]}))
        with pytest.raises(UserError, match="is no name of"):
            EmbeddingStore(tmp_path)
