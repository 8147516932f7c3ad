"""Search by codes against search by all vectors, and ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rcc import EmbeddingStore
from rcc.store.search import best
from rcc.store.segment import codes_of


@pytest.fixture(scope="module")
def clustered() -> Any:
    """3,000 vectors about 40 centres, off the origin as those of real models are."""
    source = np.random.default_rng(0)
    centres = source.normal(size=(40, 96))
    rows = centres[source.integers(0, 40, 3000)] + 0.7 * source.normal(size=(3000, 96)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def store(clustered: Any, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path_factory.mktemp("store"))
    store.add([str(place) for place in range(3000)], clustered, [{"even": place % 2 == 0} for place in range(3000)])
    return store


def ids(found: Any) -> list[list[str]]:
    return [[match.id for match in each] for each in found]


def test_exact_search_is_that_of_one_product(store: EmbeddingStore, clustered: Any) -> None:
    cosines = clustered[:20] @ clustered.T
    wanted = [[str(place) for place in np.argsort(-row)[:10]] for row in cosines]
    assert ids(store.search(clustered[:20], method="exact")) == wanted


def test_codes_find_nearly_all_of_the_nearest_and_score_them_exactly(store: EmbeddingStore, clustered: Any) -> None:
    exact = store.search(clustered[:100], method="exact")
    coded = store.search(clustered[:100], method="codes")
    kept = [len({m.id for m in a} & {m.id for m in b}) for a, b in zip(exact, coded, strict=True)]
    assert sum(kept) >= 0.98 * 1000
    cosines = clustered[:100] @ clustered.T
    for query, found in enumerate(coded):
        for match in found:
            assert match.score == pytest.approx(cosines[query, int(match.id)], abs=1e-6)


def test_what_codes_miss_is_told_and_more_candidates_miss_less(store: EmbeddingStore, clustered: Any) -> None:
    few, many, all_of_them = (store.recall(clustered[:50], candidates=count) for count in (10, 100, 3000))
    assert 0.2 < few < many
    assert all_of_them == 1.0


@pytest.mark.parametrize("method", ["exact", "codes"])
def test_a_filter_is_met_before_anything_is_compared(store: EmbeddingStore, clustered: Any, method: str) -> None:
    (found,) = store.search(clustered[1], top_k=50, where="even=true", method=method)
    even = np.arange(0, 3000, 2)
    wanted = even[np.argsort(-(clustered[even] @ clustered[1]))[:50]]
    assert len(set(ids([found])[0]) & {str(place) for place in wanted}) >= 47
    assert all(match.fields["even"] for match in found)
    assert len(found) == 50


def test_codes_are_a_bit_a_dimension_and_zero_beyond() -> None:
    (code,) = codes_of(np.array([[1, -1, 3]], np.float32), np.zeros(3, np.float32))
    assert code.tolist() == [0b101]
    assert codes_of(np.ones((2, 65), np.float32), np.zeros(65, np.float32)).tolist() == [[2**64 - 1, 1]] * 2


@given(
    scores=npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 4)),
    top_k=st.integers(1, 8),
)
def test_the_best_are_in_falling_order_and_of_equal_ones_the_first(scores: Any, top_k: int) -> None:
    places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    found, values = best(places, scores, top_k)
    for row, chosen, told in zip(scores, found, values, strict=True):
        wanted = sorted(range(len(row)), key=lambda place: (-row[place], place))[:top_k]
        assert chosen.tolist() == wanted
        assert told.tolist() == [row[place] for place in wanted]
