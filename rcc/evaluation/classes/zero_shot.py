"""Zero-shot classification: the class whose prompts are closest to the image.

Convention: each prompt's embedding is normalised, a class is the mean of its prompts, normalised again; the
score is the cosine. Source: Radford et al. (2021), section 3.1.4, prompt ensembling in embedding space. Ties
go to the class that comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.evaluation.classes.metrics import class_measurement, labels_of
from rcc.evaluation.classes.templates import prompts
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.embeddings.fingerprint import Fingerprint
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

BLOCK = 4096  # images scored at a time


class ZeroShotEvaluator:
    """Top-1 accuracy (primary), top-5 accuracy and mean per-class accuracy, as fractions with standard errors.

    Args:
        batch_size: images or prompts in one forward pass.
        cache_megabytes: memory for prepared pixels, and as much again for embeddings.
        embeddings: directory that keeps embeddings from one run to the next; None for none.
        cache: what several evaluators share; its settings count then, and the three above do not.
    """

    def __init__(
        self,
        batch_size: int = 256,
        cache_megabytes: float = 256,
        embeddings: str | Path | None = None,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.cache = cache or EmbeddingCache(batch_size, cache_megabytes, embeddings)

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the data has no classes or labels.
        """
        labels_of(split, splits, "zero_shot")

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Classify every image of `split` among `splits.class_names`; see `class_measurement` for what is reported.

        Raises:
            UserError: the data has no classes or labels, or the model no image or no text embeddings.
            WorkError: the embeddings are not finite.
        """
        labels = labels_of(split, splits, "zero_shot")
        model = self.cache.fingerprint(adapter)
        classes = self.compute_text_embeddings(adapter, splits.class_names, splits.templates, model)
        images = self.cache.images(adapter, split, model)
        scores = (block @ classes.T for block in images.split(BLOCK))
        return class_measurement(scores, split, splits, labels, of="")

    def compute_text_embeddings(
        self,
        adapter: Adapter,
        class_names: Sequence[str],
        templates: Sequence[str],
        model: Fingerprint | None = None,
    ) -> Tensor:
        """One normalised embedding a class, (classes, D), of the weights as they are now, whose fingerprint may be
        given."""
        embeddings = self.cache.texts(adapter, prompts(class_names, templates), model)
        return F.normalize(embeddings.unflatten(0, (len(class_names), len(templates))).mean(1), dim=-1)
