"""Re-ranking: the first k answers by cosine are put in order by a model that looks at image and text together.

Source: Li et al., "BLIP" (2022), section 4.1: candidates by the similarity of features, re-ranked by their image-text
matching scores; k = 256 for COCO and 128 for Flickr30K there. What is not among the k keeps its place behind them.
Equal probabilities keep the order by cosine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rcc.data.splits import Split
from rcc.errors import WorkError
from rcc.evaluation.retrieval.ranks import Pairs, Ranks, slices
from rcc.layers.modes import evaluating
from rcc.models.abilities import Matcher
from rcc.models.adapter import Adapter

QUERIES = 256  # whose answers are sorted at a time


def reranked(
    adapter: Adapter,
    split: Split,
    texts: Sequence[str],
    embeddings: tuple[Tensor, Tensor],
    pairs: Pairs,
    ranks: Ranks,
    top_k: int,
    batch_size: int,
) -> Ranks:
    """`ranks` by cosine, (N,) and (T,), with the first `top_k` answers of each query in the order of `adapter.match`.

    A pair that is a candidate both ways is matched once, and each image is decoded once.

    Raises:
        WorkError: a probability is not finite.
    """
    assert isinstance(adapter, Matcher)
    images, captions = embeddings
    for_images = _candidates(images, captions, pairs, min(top_k, pairs.texts))
    for_texts = _candidates(captions, images, pairs.transposed(), min(top_k, pairs.images))
    forward = torch.arange(pairs.images)[:, None] * pairs.texts + for_images
    backward = for_texts * pairs.texts + torch.arange(pairs.texts)[:, None]
    asked = torch.cat([forward.flatten(), backward.flatten()]).unique()  # sorted, hence image after image
    matches = torch.cat(list(_matches(adapter, split, texts, asked, batch_size)))
    right = torch.zeros(len(asked), dtype=torch.bool)
    codes = pairs.image * pairs.texts + pairs.text
    right[torch.searchsorted(asked, codes[torch.isin(codes, asked)])] = True
    found = []
    for candidates, before in ((forward, ranks.of_images), (backward, ranks.of_texts)):
        place = torch.searchsorted(asked, candidates)
        found.append(_new_ranks(matches[place], right[place], before))
    return Ranks(*found)


def _candidates(queries: Tensor, answers: Tensor, pairs: Pairs, count: int) -> Tensor:
    """(Q, count) indices of the best answers by cosine, best first; among equal ones the wrong come first."""
    found = []
    for rows in slices(len(queries), QUERIES):
        # Scores as those that ranks are counted by. One step of float64 lies between any two of them.
        scores = (queries[rows].double() @ answers.double().T).float().double()
        here = pairs.within(rows, slice(0, len(answers)))
        scores[here] = torch.nextafter(scores[here], torch.tensor(-torch.inf, dtype=torch.float64))
        found.append(scores.argsort(dim=1, descending=True, stable=True)[:, :count])
    return torch.cat(found)


def _matches(adapter: Adapter, split: Split, texts: Sequence[str], asked: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Probabilities of the pairs `asked`, image · T + text, a batch at a time."""
    assert isinstance(adapter, Matcher)
    decoded, picture = -1, None
    with evaluating(adapter.module):
        for batch in asked.split(batch_size):
            images = []
            for image in (batch // len(texts)).tolist():
                if image != decoded:
                    decoded, picture = image, split.images[image]
                images.append(picture)
            with torch.inference_mode():
                found = adapter.match(images, [texts[index] for index in (batch % len(texts)).tolist()])
            if not bool(torch.isfinite(found).all()):
                raise WorkError("the model's matches of images and texts hold NaN or infinite values.")
            yield found.double().cpu()


def _new_ranks(matches: Tensor, right: Tensor, before: Tensor) -> Tensor:
    """(Q,) ranks from the probabilities (Q, k) of candidates in the order by cosine, and which of them are right;
    `before` where none is."""
    order = matches.argsort(dim=1, descending=True, stable=True)
    ordered = right.gather(1, order)
    first = ordered.int().argmax(1) + 1
    return torch.where(ordered.any(1), first, before)
