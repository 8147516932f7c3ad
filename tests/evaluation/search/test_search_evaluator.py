"""eval=search: a ranking by cosine in the whole corpus, with prompts, and what a wrong join of judgements costs."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys.checkpoints import save_sentences

from rcc.data.collection import Collection, search_splits
from rcc.data.cutting import Cut
from rcc.data.registry import load_data
from rcc.errors import UserError
from rcc.evaluation.registry import load_evaluator
from rcc.evaluation.search.evaluator import SearchEvaluator
from rcc.evaluation.search.metrics import NAMES, grades_of, query_scores
from rcc.models.own.module import ModuleAdapter
from rcc.models.registry import load_model

CRANFIELD = Path(os.environ.get("RCC_DATA", "/nowhere")) / "cranfield"
WORDS = 4096


class WordCounts(nn.Module):
    """Counts of hashed words, weighed by how few documents have them: an encoder that needs no training."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, counts: Tensor) -> dict[str, Tensor]:
        return {"text_embeds": counts.log1p() * self.weights}


def counted(texts: list[str]) -> Tensor:
    found = torch.zeros(len(texts), WORDS)
    for place, text in enumerate(texts):
        for word in re.findall(r"[a-z]{2,}\d*", text.lower()):
            found[place, zlib.crc32(word.rstrip("s").encode()) % WORDS] += 1
        found[place, 0] += 1e-6  # an empty text points somewhere
    return found


def word_counts(corpus: list[str]) -> ModuleAdapter:
    having = (counted(corpus) >= 1).sum(0)
    weights = torch.log((len(corpus) + 1) / (having + 1))
    return ModuleAdapter(WordCounts(weights), prepare=lambda texts: {"counts": counted(list(texts))})


def test_each_query_ranks_the_whole_corpus(data_set: Callable[[str], Path]) -> None:
    splits = load_data("documents", path=str(data_set("documents")))
    assert splits.corpus is not None
    model = word_counts(list(splits.corpus.texts))
    measured = load_evaluator("search", batch_size=5).evaluate(model, splits.test, splits)
    assert (measured.primary, measured.samples, measured.split) == ("ndcg_at_10", 3, "test")
    assert "3 queries in 24 documents" in measured.details["note"]
    with torch.no_grad():
        documents, queries = (
            F.normalize(model.outputs(model.prepare(texts=texts))["text_embeds"], dim=1).numpy()
            for texts in (splits.corpus.texts, splits.test.texts)
        )
    judged = splits.test.fields["judgements"][:]
    places = {f"d{place}": place for place in range(24)}
    expected = [
        query_scores(query @ documents.T, grades_of(each, places)) for query, each in zip(queries, judged, strict=True)
    ]
    for place, name in enumerate(NAMES):
        values = measured.details["per_image"][name]
        np.testing.assert_allclose(values, [each[place] for each in expected], atol=1e-6)
        assert math.isclose(np.mean(values), measured[name].value)


def test_a_query_that_is_its_only_document_is_found_first() -> None:
    texts = [f"word{number} other{number}" for number in range(12)]
    ids = tuple(str(number) for number in range(12))
    asked = {f"q{number}": texts[number] for number in range(6)}
    judged = {"all": {f"q{number}": {str(number): 1} for number in range(6)}}
    collection = Collection(ids, ("",) * 12, tuple(texts), asked, judged)
    splits = search_splits("documents", collection, Cut(None, 3, 2, None))
    measured = SearchEvaluator(batch_size=4).evaluate(word_counts(texts), splits.test, splits)
    assert {metric.name: metric.value for metric in measured.metrics} == dict.fromkeys(NAMES, 1.0)


def test_prompts_of_queries_and_documents_are_put_before_them(
    data_set: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_sentences(tmp_path / "encoder", prompts={"query": "digit ", "passage": "photo "})
    model: Any = load_model("auto", path=path, device="cpu")
    seen: dict[str, set[str]] = {}
    prepare = model.prepare

    def noted(texts: Any = None, prompt: str | None = None, **fields: Any) -> Any:
        seen.setdefault(str(prompt), set()).update(texts)
        return prepare(texts=texts, prompt=prompt, **fields)

    monkeypatch.setattr(model, "prepare", noted)
    splits = load_data("documents", path=str(data_set("documents")))
    SearchEvaluator(batch_size=8).evaluate(model, splits.test, splits)
    assert splits.corpus is not None
    assert seen["query"] == set(splits.test.texts)
    assert seen["passage"] == set(splits.corpus.texts)


def test_data_without_queries_is_refused(digits: Any, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text("".join(f'{{"id": "{each}", "text": "a {each}"}}\n' for each in range(9)))
    splits = load_data("documents", path=str(tmp_path / "docs.jsonl"))
    for data in (digits, splits):
        with pytest.raises(UserError, match=r"needs queries with judgements .* data=documents"):
            SearchEvaluator().check(word_counts(["a"]), data.test, data)


def joined(folder: Path, join: str) -> float:
    """nDCG@10 of all but one of the queries of a Cranfield collection."""
    splits = load_data("cranfield", path=str(folder), join=join, selection=1)
    assert splits.corpus is not None
    model = word_counts(list(splits.corpus.texts))
    return SearchEvaluator(batch_size=256).evaluate(model, splits.test, splits).main.value


def test_judgements_joined_by_the_numbers_of_queries_are_worth_nothing(tmp_path: Path) -> None:
    texts = [f"word{number} other{number} third{number}" for number in range(1, 61)]
    documents = [f"<doc><docno>{place}</docno><text>{text}</text></doc>" for place, text in enumerate(texts, 1)]
    queries = [f"<top><num>{2 * place}</num><title>{texts[place - 1]}</title></top>" for place in range(1, 41)]
    (tmp_path / "cran.all.1400.xml").write_text("\n".join(documents))
    (tmp_path / "cran.qry.xml").write_text("\n".join(queries))
    (tmp_path / "qrels.txt").write_text("\n".join(f"{place} 0 {place} 1" for place in range(1, 41)))
    assert joined(tmp_path, "position") == 1
    assert joined(tmp_path, "number") < 0.05


@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="RCC_DATA names no folder with cranfield")
def test_so_it_is_on_the_published_collection() -> None:
    assert joined(CRANFIELD, "position") > 0.25
    assert joined(CRANFIELD, "number") < 0.05
