"""Lists about centroids: what all of them find is exact, and few of them miss little; a small store has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcc import EmbeddingStore, UserError
from rcc.store import lists

ROWS, CENTRES = 4000, 40


@pytest.fixture(scope="module")
def clustered() -> Any:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(CENTRES, 24))
    rows = centres[draw.integers(0, CENTRES, ROWS)] + 0.4 * draw.normal(size=(ROWS, 24))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path, clustered: Any, monkeypatch: pytest.MonkeyPatch) -> EmbeddingStore:
    """A store in three segments that is large enough for lists."""
    pytest.importorskip("faiss")
    monkeypatch.setattr("rcc.store.store.LEAST_ROWS", ROWS)
    found = EmbeddingStore(tmp_path / "store")
    for start in range(0, ROWS, 1500):
        names = [str(place) for place in range(start, min(start + 1500, ROWS))]
        found.add(
            names, clustered[start : start + 1500], [{"odd": int(name) % 2 == 1, "place": int(name)} for name in names]
        )
    return found


def ids(found: Any) -> list[list[str]]:
    return [[match.id for match in each] for each in found]


def test_all_lists_are_exact_and_few_miss_little(store: EmbeddingStore, clustered: Any) -> None:
    assert store.build_lists() == 63
    assert store.build_lists() == 0  # they are there
    queries = clustered[::100]
    assert ids(store.search(queries, 5, method="lists", candidates=63)) == ids(store.search(queries, 5))
    assert store.recall(queries, 10, "lists") > 0.97
    assert store.recall(queries, 10, "lists", 1) < store.recall(queries, 10, "lists", 8)
    assert ids(EmbeddingStore(store.path).search(queries, 5, method="lists", candidates=63)) == ids(
        store.search(queries, 5)
    )


def test_filters_deletions_and_later_rows_are_heeded(store: EmbeddingStore, clustered: Any) -> None:
    store.build_lists()
    nearest = ids(store.search(clustered[7], 1, method="lists"))[0][0]
    assert nearest == "7"
    store.delete("7")
    store.add("later", clustered[7], [{"odd": True}])
    assert ids(store.search(clustered[7], 1, method="lists"))[0] == ["later"]
    for where in ("odd=true", "odd=false"):
        found = store.search(clustered[:20], 5, where, "lists", 63)
        assert ids(found) == ids(store.search(clustered[:20], 5, where))
    few = store.search(clustered[:3], 50, "place<30", "lists", 1)  # fewer meet it than are asked for: all of them
    assert ids(few) == ids(store.search(clustered[:3], 50, "place<30"))


def test_lists_go_with_their_segment(store: EmbeddingStore) -> None:
    store.build_lists()
    (place,) = store.path.glob("*.lists")
    store.delete([str(place) for place in range(2000)])  # more than 30 % are dead: the segment is written anew
    assert not place.exists()
    with pytest.raises(UserError, match=r"has no lists: rcc-run job=index store\.index=faiss makes them"):
        store.search(np.ones(24), method="lists")


def test_damaged_lists_are_refused(store: EmbeddingStore, clustered: Any) -> None:
    store.build_lists()
    (place,) = store.path.glob("*.lists")
    order = (place / "order").read_bytes()
    (place / "order").write_bytes(order[:-4])
    with pytest.raises(UserError, match="should have 16000: it is damaged"):
        store.search(clustered[0], method="lists")
    (place / "order").write_bytes(b"\xff" * len(order))
    with pytest.raises(UserError, match="is damaged: remove it"):
        store.search(clustered[0], method="lists")


def test_a_small_store_and_a_missing_faiss_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = EmbeddingStore(tmp_path / "store")
    small.add(["a"], np.ones((1, 4)))
    with pytest.raises(UserError, match="has 1 rows and lists have an effect from 1,000,000 on"):
        small.build_lists()
    monkeypatch.setattr(lists, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"store\.index=faiss needs faiss-cpu.*pip install 'rcc\[faiss\]'"):
        small.build_lists()
