"""Metrics of rankings against trec_eval's own code, by pytrec_eval, and by known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.evaluation.search.metrics import NAMES, chances_of, grades_of, query_scores, search_metrics

MEASURES = ("ndcg_cut_10", "recall_100", "recip_rank", "map")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 40))
def test_a_query_scores_as_trec_eval_says(seed: int, documents: int, judged: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    random = np.random.default_rng(seed)
    scores = random.permutation(documents).astype(np.float32)  # no two alike: ties are ours to break
    grades = np.zeros(documents)
    chosen = random.choice(documents, min(judged, documents), replace=False)
    grades[chosen] = random.integers(-1, 4, len(chosen))
    grades[chosen[0]] = random.integers(1, 4)
    qrels = {"q": {f"d{place}": int(grades[place]) for place in chosen}}
    run = {"q": {f"d{place}": float(score) for place, score in enumerate(scores)}}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank", "map"}).evaluate(run)["q"]
    np.testing.assert_allclose(query_scores(scores, grades), [found[name] for name in MEASURES], atol=1e-6)


def test_known_answers_by_hand() -> None:
    grades = grades_of([("b", 2), ("c", 1), ("d", 0)], {name: place for place, name in enumerate("abcd")})
    assert grades.tolist() == [0, 2, 1, 0]
    ndcg, recall, reciprocal, precision = query_scores(np.array([4, 1, 3, 2], np.float32), grades)
    assert ndcg == pytest.approx((1 / np.log2(3) + 2 / np.log2(5)) / (2 + 1 / np.log2(3)))
    assert (recall, reciprocal, precision) == (1, 0.5, pytest.approx((1 / 2 + 2 / 4) / 2))


def test_ties_count_against_the_model() -> None:
    same = np.zeros(20, np.float32)
    grades = np.eye(20)[0]
    assert query_scores(same, grades) == (0, 1, 1 / 20, 1 / 20)


def test_means_have_errors_and_intervals_that_contain_them() -> None:
    random = np.random.default_rng(0)
    values = {name: random.random(50).tolist() for name in NAMES}
    for metric in search_metrics(values, {}):
        column = np.array(values[metric.name])
        assert metric.value == pytest.approx(column.mean())
        assert metric.standard_error == pytest.approx(column.std() / 50**0.5)
        assert metric.interval is not None
        assert metric.interval.low < metric.value < metric.interval.high
    alike = search_metrics({name: [1.0] * 8 for name in NAMES}, {})
    assert all(metric.interval is not None and metric.interval.low < 0.75 for metric in alike)


def test_chance_is_what_random_orders_reach() -> None:
    random = np.random.default_rng(1)
    grades = np.zeros(200)
    grades[:9] = [3, 2, 2, 1, 1, 1, 1, 1, 1]
    drawn = [query_scores(random.permutation(200).astype(np.float32), grades) for _ in range(4000)]
    chances = chances_of([grades])
    assert chances["ndcg_at_10"] == pytest.approx(np.mean([each[0] for each in drawn]), abs=0.005)
    assert chances["recall_at_100"] == pytest.approx(np.mean([each[1] for each in drawn]), abs=0.01)
