"""Small problems of retrieval: embeddings, and which texts are right for which images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

Problem = tuple[Tensor, Tensor, list[list[int]], list[list[int]]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Embeddings of eighths, so that products are exact and ties frequent, and captions: one to three an image."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=9))
    width = draw(st.integers(1, 3))
    numbers = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    images, texts = (
        torch.tensor(draw(st.lists(numbers, min_size=n, max_size=n))) / 8.0 for n in (len(counts), sum(counts))
    )
    order = draw(st.permutations(range(sum(counts))))
    ends = np.cumsum([0, *counts])
    img2txt = [[order[index] for index in range(*ends_of)] for ends_of in pairwise(ends)]
    txt2img = [[next(i for i, found in enumerate(img2txt) if text in found)] for text in range(sum(counts))]
    return images, texts, img2txt, txt2img


def clip_benchmark_recall(scores: Tensor, right: list[list[int]], k: int) -> float:
    """Share of queries for which positives among the k largest scores, over all positives, is above zero."""
    positive = torch.zeros(scores.shape, dtype=torch.bool)
    for query, own in enumerate(right):
        positive[query, own] = True
    top = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float((positive.gather(1, top).sum(1) / positive.sum(1) > 0).float().mean())
