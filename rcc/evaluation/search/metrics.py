"""Score rankings of documents by judged grades: nDCG@k, average precision, recall@k, reciprocal rank.

Conventions are those of trec_eval, by which BEIR and MTEB are measured: the gain of a document is its grade, one that
nobody judged has 0, and the ideal order is that of all that was judged for the query. One differs: of documents of one
score the less relevant come first, so that ties count against the model.

Sources: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20 (2002); Voorhees, "The
TREC-8 question answering track report" (1999), for the reciprocal rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rcc.measurement import Metric
from rcc.measurement.bootstrap import effective_items, mean_intervals
from rcc.measurement.shares import share_interval

NDCG_DEPTH, RECALL_DEPTH = 10, 100
PRIMARY = f"ndcg_at_{NDCG_DEPTH}"
NAMES = (PRIMARY, f"recall_at_{RECALL_DEPTH}", "mrr", "map")
Grades = NDArray[np.float64]


def query_scores(scores: NDArray[np.float32], grades: Grades) -> tuple[float, float, float, float]:
    """nDCG@10, recall@100, reciprocal rank and average precision of one query with a relevant document.

    Args:
        scores, grades: (N,) of each document; 0 of one that nobody judged.
    """
    gains = np.maximum(grades, 0)[np.lexsort((grades, -scores))]
    ideal = np.sort(np.maximum(grades, 0))[::-1]
    places = np.flatnonzero(gains) + 1  # ranks of the relevant ones, from 1
    found = np.arange(1, len(places) + 1)
    return (
        _discounted(gains) / _discounted(ideal),
        float((places <= RECALL_DEPTH).mean()),
        1 / float(places[0]),
        float((found / places).mean()),
    )


def grades_of(judged: Sequence[tuple[str, int]], places: Mapping[str, int]) -> Grades:
    """(N,) the grade of each document of a corpus, whose ids are at these places."""
    grades = np.zeros(len(places))
    for document, grade in judged:
        grades[places[document]] = grade
    return grades


def search_metrics(values: Mapping[str, Sequence[float]], chances: Mapping[str, float]) -> tuple[Metric, ...]:
    """The means over queries, with standard errors and intervals.

    An interval is the hull of the BCa bootstrap over queries and of Wilson's for as many as the error is worth, which
    bounds it where all queries came out alike.

    Args:
        values: by metric, one a query.
        chances: by metric, what documents in random order reach.
    """
    columns = np.array([values[name] for name in NAMES], dtype=np.float64).T
    count = len(columns)
    errors = columns.std(axis=0) / math.sqrt(count)
    found = []
    for name, value, error, drawn in zip(NAMES, columns.mean(axis=0), errors, mean_intervals(columns), strict=True):
        whole = drawn.hull(share_interval(float(value), effective_items(float(value), float(error), count)))
        found.append(Metric(name, float(value), "fraction", True, float(error), whole, chances.get(name)))
    return tuple(found)


def chances_of(grades: Sequence[Grades]) -> dict[str, float]:
    """The expected nDCG and recall of documents in random order, the mean over queries."""
    depth = [np.maximum(each, 0).mean() * _discounted(np.ones(len(each))) for each in grades]
    ideal = [_discounted(np.sort(np.maximum(each, 0))[::-1]) for each in grades]
    ndcg = np.mean([one / best for one, best in zip(depth, ideal, strict=True)])
    return {NAMES[0]: float(ndcg), NAMES[1]: float(np.mean([min(1, RECALL_DEPTH / len(each)) for each in grades]))}


def _discounted(gains: Grades) -> float:
    """Σ gain / log₂(rank + 1) over the first ranks."""
    first = gains[:NDCG_DEPTH]
    return float((first / np.log2(np.arange(2, len(first) + 2))).sum())
