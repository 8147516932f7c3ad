"""A store against a dictionary: what was acknowledged is there, whatever is killed, merged, replaced or deleted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rcc
from rcc import EmbeddingStore, UserError
from rcc.engine.parquet import EmbeddingSchema, EmbeddingWriter
from rcc.store import Match

DIMENSIONS = 5


def vectors(count: int, seed: int = 0, dimensions: int = DIMENSIONS) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def names(count: int, start: int = 0) -> list[str]:
    return [f"item {place}" for place in range(start, start + count)]


def test_what_is_added_is_found_nearest_first_with_its_fields(tmp_path: Path) -> None:
    rows = vectors(20)
    EmbeddingStore(tmp_path / "store").add(names(20), 3 * rows, [{"year": 2000 + place} for place in range(20)])
    store = EmbeddingStore(tmp_path / "store")
    (found,) = store.search(rows[7], top_k=20)
    order = np.argsort(-(rows @ rows[7]))
    assert [match.id for match in found] == [f"item {place}" for place in order]
    assert found[0] == Match("item 7", found[0].score, {"year": 2007})
    np.testing.assert_allclose([match.score for match in found], (rows @ rows[7])[order], atol=1e-6)
    assert (len(store), "item 3" in store, "item 99" in store) == (20, True, False)
    assert store.fields_of("item 3") == {"year": 2003}
    assert store.fields_of("item 99") is None
    np.testing.assert_allclose(store.vectors_of(["item 3", "item 0"]), rows[[3, 0]], atol=1e-6)


def test_several_queries_are_answered_each(tmp_path: Path) -> None:
    rows = vectors(30)
    store = EmbeddingStore(tmp_path)
    for start in range(0, 30, 10):  # three segments
        store.add(names(10, start), rows[start : start + 10])
    found = store.search(rows[[29, 0]], top_k=4)
    cosines = rows[[29, 0]] @ rows.T
    assert [[match.id for match in each] for each in found] == [
        [f"item {place}" for place in np.argsort(-row)[:4]] for row in cosines
    ]


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "delete", "compact", "reopen"]), st.sets(st.integers(0, 11), min_size=1)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS)
def test_it_holds_what_a_dictionary_would(operations: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("stores") / "store"
    store = EmbeddingStore(place)
    held: dict[str, Any] = {}
    for number, (operation, chosen) in enumerate(operations):
        ids = [f"item {each}" for each in sorted(chosen)]
        if operation == "add":
            rows = vectors(len(ids), number)
            store.add(ids, rows, [{"of": number}] * len(ids))
            held |= {id: (row, {"of": number}) for id, row in zip(ids, rows, strict=True)}
        elif operation == "delete":
            assert store.delete(ids) == len(held.keys() & set(ids))
            held = {id: row for id, row in held.items() if id not in ids}
        elif operation == "compact":
            store.compact()
        else:
            store = EmbeddingStore(place)
    assert sorted(store.ids()) == sorted(held)
    assert len(store) == len(held)
    for id, (row, fields) in held.items():
        np.testing.assert_allclose(store.vectors_of([id])[0], row, atol=1e-6)
        assert store.fields_of(id) == fields
    if held:
        (found,) = store.search(vectors(1, 99), top_k=100)
        assert sorted(match.id for match in found) == sorted(held)
        assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)


def test_segments_stay_few_and_nothing_dead_stays_long(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    for place in range(60):
        store.add(f"item {place}", vectors(1, place))
    assert len(store.manifest.segments) <= 16
    assert list(store.ids()) != []
    store.delete(names(40))
    assert sum(entry.dead_rows for entry in store.manifest.segments) <= 0.3 * sum(
        entry.rows for entry in store.manifest.segments
    )
    assert sorted(store.ids()) == sorted(names(20, 40))
    on_disk = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert on_disk == {entry.name for entry in store.manifest.segments}


def test_a_reader_keeps_what_it_opened_until_it_refreshes(tmp_path: Path) -> None:
    writer = EmbeddingStore(tmp_path)
    writer.add(names(5), vectors(5))
    reader = EmbeddingStore(tmp_path)
    writer.delete(names(4))
    writer.compact()
    (found,) = reader.search(vectors(1), top_k=9)  # rows are read now, of files that are gone
    assert len(found) == len(reader) == 5
    reader.refresh()
    assert list(reader.ids()) == ["item 4"]


def test_two_that_write_in_turn_see_each_other(tmp_path: Path) -> None:
    one, other = EmbeddingStore(tmp_path), EmbeddingStore(tmp_path)
    one.add("a", vectors(1))
    other.add(["b", "a"], vectors(2, 5))
    one.add("c", vectors(1, 3))
    assert sorted(one.ids()) == ["a", "b", "c"]
    np.testing.assert_allclose(one.vectors_of(["a"]), vectors(2, 5)[1:], atol=1e-6)


class Killed(BaseException):
    """What a kill is to the code that it meets."""


def killed(place: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, int]], bool]:
    """Work on a store until the `kill_at`-th call that changes the disk, after which none does. What the store may hold
    then: what was acknowledged, or that and the change under way; and whether all came to an end."""
    states: list[dict[str, int]] = [{}]
    changes: list[Callable[[EmbeddingStore], Any]] = []
    for turn in range(3):
        ids = names(6, 3 * turn)
        changes.append(lambda store, ids=ids, turn=turn: store.add(ids, vectors(6, turn), [{"turn": turn}] * 6))  # type: ignore[misc]
        states.append(states[-1] | dict.fromkeys(ids, turn))
    changes += [lambda store: store.delete(names(3)), lambda store: store.compact()]
    states += [{id: turn for id, turn in states[-1].items() if id not in names(3)}] * 2
    calls = 0

    def watched(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= kill_at:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir"):
            patch.setattr(os, name, watched(getattr(os, name)))
        for done, change in enumerate(changes):
            try:
                change(EmbeddingStore(place))
            except Killed:
                return states[done : done + 2], False
    return states[-1:], True


def test_nothing_acknowledged_is_lost_to_a_kill_at_any_call_that_changes_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, point = False, 0
    while not ended:
        point += 1
        place = tmp_path / str(point)
        may_be, ended = killed(place, point, monkeypatch)
        store = EmbeddingStore(place)
        assert {id: (store.fields_of(id) or {})["turn"] for id in store.ids()} in may_be, point
        store.add("after", vectors(1, 9), [{"turn": 9}])
        assert "after" in EmbeddingStore(place)
        assert not [path for path in place.iterdir() if path.name.endswith((".partial", ".removed"))]
    assert point > 30


def test_what_belongs_to_another_model_kind_or_width_is_refused(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path, kind="text", model="a" * 64).add(names(2), vectors(2))
    for asked in ({"model": "b" * 64}, {"kind": "clip"}, {"dimensions": 6}):
        with pytest.raises(UserError, match="Vectors of two models cannot be compared"):
            EmbeddingStore(tmp_path, **asked)  # type: ignore[arg-type]
    store = EmbeddingStore(tmp_path, kind="text", model="a" * 64, dimensions=5)
    with pytest.raises(UserError, match="have 6 dimensions and the store's have 5"):
        store.add("x", vectors(1, dimensions=6))
    with pytest.raises(UserError, match="have 6 dimensions"):
        store.search(vectors(1, dimensions=6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.add("a", np.zeros(5)), "row 0 is zero or not finite"),
        (lambda store: store.add(["a", "b"], [[1.0] * 5, [np.nan] * 5]), "row 1 is zero or not finite"),
        (lambda store: store.add(["a"], vectors(2)), "there are 1 for 2 vectors"),
        (lambda store: store.add(["a", "a"], vectors(2)), "a come more than once"),
        (lambda store: store.add([3], vectors(1)), "item 0 is 3; an id is a text"),
        (lambda store: store.add(["\ud800"], vectors(1)), "an id is a text"),
        (lambda store: store.add("a", "text"), "no array of numbers"),
        (lambda store: store.add("a", np.zeros((0, 5))), "one item or more"),
        (lambda store: store.add("a", vectors(1), [{"year": []}]), r"year is \[\]; a field is a text"),
        (lambda store: store.add("a", vectors(1), [{"year": "old"}]), "in this store it is a number"),
        (lambda store: store.add("a", vectors(1), [{"id": "b"}]), "is no name of a field"),
        (lambda store: store.add("a", vectors(1), [3]), "row 0 is int"),
        (lambda store: store.add("a", vectors(1), []), "0 rows of them for 1 vectors"),
        (lambda store: store.search(vectors(1), top_k=0), "top_k"),
        (lambda store: store.search(vectors(1), method="fast"), "unknown method 'fast'"),
        (lambda store: store.search(vectors(1), candidates=5), "candidates has no effect with method=exact"),
        (lambda store: store.search(vectors(1), method="codes", candidates=0), "candidates"),
        (lambda store: store.search(np.zeros(5)), "queries: row 0 is zero"),
        (lambda store: store.search(vectors(1), where="colour=red"), "unknown field 'colour'"),
        (lambda store: store.vectors_of(["no"]), "has no id 'no'; it holds 3"),
    ],
)
def test_what_cannot_be_kept_or_found_is_refused_and_nothing_changes(call: Any, message: str, tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.add(names(3), vectors(3), [{"year": 2000}] * 3)
    with pytest.raises(UserError, match=message):
        call(store)
    assert sorted(EmbeddingStore(tmp_path).ids()) == names(3)


def test_a_place_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; a store is a directory"):
        EmbeddingStore(tmp_path / "file")
    with pytest.raises(UserError, match="is not empty and no store"):
        EmbeddingStore(tmp_path)
    with pytest.raises(UserError, match="is no store: there is nothing"):
        EmbeddingStore(tmp_path / "new").search(vectors(1))
    assert EmbeddingStore(tmp_path / "new").delete("a") == 0
    assert not (tmp_path / "new").exists()


def test_the_page_of_the_store_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(rcc.__file__).parents[1] / "docs/store.md").read_text(encoding="utf-8")
    given: dict[str, Any] = {"checksum": "a" * 64, "ids": names(5), "vectors": vectors(5)}
    monkeypatch.chdir(tmp_path)
    schema = EmbeddingSchema("clip", vectors(5).shape[1], "a" * 64, "run/artifact")
    with EmbeddingWriter(tmp_path / "embeddings.parquet", schema, 5) as writer:
        writer.write(names(5), vectors(5), [{"split": "test"}] * 5)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "store.md", "exec"), given)
    np.testing.assert_allclose(given["again"].search(vectors(5), top_k=1)[4][0].score, 1, atol=1e-6)
    assert [match.fields["year"] >= 2020 for match in given["found"][0]] == [True] * 3
    assert len(EmbeddingStore("store")) == 4
