"""Search: each query looks for its documents in the whole corpus, by the cosine of their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.batch_size import AUTO
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.search.metrics import NAMES, PRIMARY, chances_of, grades_of, query_scores, search_metrics
from rcc.measurement import Measurement
from rcc.measurement.paired import PER_IMAGE
from rcc.models.abilities import prompt_of
from rcc.models.adapter import Adapter

TOGETHER = 64
"""Queries whose scores exist at a time."""


class SearchEvaluator:
    """nDCG@10 (primary), recall@100, mean reciprocal rank and mean average precision, with standard errors.

    A model that has prompts for queries and for documents puts them before these.

    Args:
        batch_size: texts in one forward pass, or 'auto': as many as fit, see `rcc.evaluation.batch_size`.
        cache_megabytes: memory for embeddings.
        embeddings: directory that keeps embeddings from one run to the next; None for none.
        cache: what several evaluators share; its settings count then.
    """

    def __init__(
        self,
        batch_size: int | str = AUTO,
        cache_megabytes: float = 256,
        embeddings: str | Path | None = None,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.cache = cache or EmbeddingCache(batch_size, cache_megabytes, embeddings)

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model what `batch_size=auto` comes to."""
        self.cache.fit_texts(adapter, _corpus(split, splits).texts)

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the data have no queries with judgements.
        """
        _corpus(split, splits)

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Rank the corpus for each query of `split`. `details` holds what each query adds to the metrics.

        Raises:
            UserError: the data have no queries with judgements, or the model embeds no texts.
            WorkError: embeddings are not finite.
        """
        corpus = _corpus(split, splits)
        places = {corpus.input.name(place): place for place in range(len(corpus))}
        model = self.cache.fingerprint(adapter)
        documents = self.cache.texts(adapter, corpus.texts, model, prompt_of(adapter, "document"))
        queries = self.cache.texts(adapter, split.texts, model, prompt_of(adapter, "query"))
        grades = [grades_of(judged, places) for judged in split.fields["judgements"][:]]
        found: list[tuple[float, ...]] = []
        for start in range(0, len(queries), TOGETHER):
            scores = (queries[start : start + TOGETHER].double() @ documents.double().T).float().numpy()
            of_block = grades[start : start + TOGETHER]
            found += [query_scores(each, judged) for each, judged in zip(scores, of_block, strict=True)]
        values = {name: [each[place] for each in found] for place, name in enumerate(NAMES)}
        note = f"Search: {len(split)} queries in {len(corpus):,} documents."
        details: dict[str, Any] = {"note": " ".join(filter(None, (note, self.cache.sizes.note))), PER_IMAGE: values}
        return Measurement(search_metrics(values, chances_of(grades)), PRIMARY, split.name, len(split), details)


def _corpus(split: Split, splits: Splits) -> Split:
    if splits.corpus is None or "judgements" not in split.fields:
        there = ", ".join(split.fields)
        raise UserError(
            "eval 'search' needs queries with judgements and the documents that they are about, and split"
            f" '{split.name}' of the data has {there}. Choose such data: data=documents with queries and qrels, or"
            " data=cranfield."
        )
    return splits.corpus
