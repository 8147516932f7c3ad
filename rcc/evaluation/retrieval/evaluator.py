"""Retrieval: each image looks for its captions among all of them, each caption for its image.

A query counts as a hit at k if any of its right answers is among the first k; ties count against the model. See
`retrieval_ranks` for ranks and `retrieval_metrics` for what is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.batch_size import AUTO
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.retrieval.metrics import PRIMARY, recalls_per_image, retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, retrieval_ranks
from rcc.evaluation.retrieval.reranking import reranked
from rcc.measurement import Measurement
from rcc.measurement.paired import PER_IMAGE
from rcc.models.abilities import Matcher
from rcc.models.adapter import Adapter


class RetrievalEvaluator:
    """Recall@1, 5 and 10 both ways, their mean `r_mean` (primary) and median ranks, with standard errors.

    Args:
        batch_size: images, texts, or pairs of them, in one forward pass, or 'auto': as many as fit, see
            `rcc.evaluation.batch_size`; of pairs as many as of images.
        cache_megabytes: memory for prepared pixels, and as much again for embeddings.
        embeddings: directory that keeps embeddings from one run to the next; None for none.
        rerank_top_k: how many of the first answers by cosine a model that can match images and texts puts in order;
            0 for none.
        cache: what several evaluators share; its settings count then, and the first three above only for pairs.
    """

    def __init__(
        self,
        batch_size: int | str = AUTO,
        cache_megabytes: float = 256,
        embeddings: str | Path | None = None,
        rerank_top_k: int = 0,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        problems = Problems("eval 'retrieval'")
        problems.whole("rerank_top_k", rerank_top_k, 0)
        problems.done()
        self.cache = cache or EmbeddingCache(batch_size, cache_megabytes, embeddings)
        self.batch_size, self.rerank_top_k = batch_size, rerank_top_k

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model what `batch_size=auto` comes to."""
        self.cache.fit_images(adapter, split)
        self.cache.fit_texts(adapter, [text for captions in split.captions for text in captions])

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the split has no captions or a single image, or the model is to re-rank and cannot match.
        """
        _check_captions(split, splits)
        if self.rerank_top_k and not isinstance(adapter, Matcher):
            raise UserError(
                f"eval 'retrieval': rerank_top_k={self.rerank_top_k} needs a model that matches images with texts, as"
                f" BLIP's for retrieval do; the model '{adapter.name}' does not. Set rerank_top_k=0 or choose another"
                " model."
            )

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Rank the captions of `split` for its images and the reverse. `details` holds every query's rank (1 is best),
        captions image after image, and what each image adds to the recalls.

        Raises:
            UserError: the split has no captions, the model no image or no text embeddings, or it is to re-rank and
                cannot match.
            WorkError: embeddings or matches are not finite.
        """
        self.check(adapter, split, splits)
        texts = [text for captions in split.captions for text in captions]
        img2txt, txt2img = ground_truth(split)
        model = self.cache.fingerprint(adapter)
        text_embeds = self.cache.texts(adapter, texts, model)
        embeddings = self.cache.images(adapter, split, model), text_embeds
        pairs = Pairs.of(img2txt, txt2img, len(split), len(texts))
        ranks = retrieval_ranks(*embeddings, pairs)
        notes = [self.cache.sizes.note]
        if self.rerank_top_k:
            top_k = self.rerank_top_k
            size = self.cache.fit_images(adapter, split) if isinstance(self.batch_size, str) else self.batch_size
            ranks = reranked(adapter, split, texts, embeddings, pairs, ranks, top_k, size)
            notes.append(f"Retrieval: the first {top_k} answers by cosine are in the order of image-text matching.")
        note = " ".join(filter(None, notes))
        details: dict[str, Any] = {"note": note} if note else {}
        details |= {
            "image_to_text_ranks": ranks.of_images.tolist(),
            "text_to_image_ranks": ranks.of_texts.tolist(),
            PER_IMAGE: recalls_per_image(ranks, pairs),
        }
        return Measurement(retrieval_metrics(ranks, pairs), PRIMARY, split.name, len(split), details)

    def compute_retrieval_metrics(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor,
        img2txt_gt: Sequence[Sequence[int]],
        txt2img_gt: Sequence[Sequence[int]],
    ) -> dict[str, float]:
        """The metrics by name of embeddings (N, D) and (T, D), compared by their inner products.

        Args:
            img2txt_gt: the right texts of each image.
            txt2img_gt: the right images of each text.

        Raises:
            UserError: the two disagree, miss a query, or do not fit the embeddings.
        """
        pairs = Pairs.of(img2txt_gt, txt2img_gt, len(image_embeds), len(text_embeds))
        ranks = retrieval_ranks(image_embeds.cpu(), text_embeds.cpu(), pairs)
        return {metric.name: metric.value for metric in retrieval_metrics(ranks, pairs)}


def ground_truth(split: Split) -> tuple[list[list[int]], list[list[int]]]:
    """The texts of each image and the image of each text, captions counted image after image."""
    img2txt: list[list[int]] = []
    txt2img: list[list[int]] = []
    for image, captions in enumerate(split.captions):
        img2txt.append(list(range(len(txt2img), len(txt2img) + len(captions))))
        txt2img += [[image] for _ in captions]
    return img2txt, txt2img


def _check_captions(split: Split, splits: Splits) -> None:
    if not split.captions:
        classes = f" and {len(splits.class_names)} class names" if splits.class_names else ""
        raise UserError(
            f"eval 'retrieval' needs images with captions, and split '{split.name}' of the data has none: it has"
            f" {len(split)} images{classes}. Choose data with captions (data=flickr8k, data=coco, …)"
            f"{', or eval=zero_shot for classes' if classes else ''}."
        )
    if len(split) == 1:
        raise UserError(
            f"eval 'retrieval': split '{split.name}' of the data has one image, so that whatever a model finds is"
            " right, and a recall of 100 % would say nothing of it. Give the split two images or more."
        )
