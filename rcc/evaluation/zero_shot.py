"""Zero-shot classification: the class whose prompts are closest to the image.

Convention: each prompt's embedding is normalised, a class is the mean of its prompts, normalised again; the
score is the cosine. Source: Radford et al. (2021), section 3.1.4, prompt ensembling in embedding space. Ties
go to the class that comes first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.templates import prompts
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter, Batch

TOP_K = 5


class ZeroShotEvaluator:
    """Top-1 accuracy (primary) and top-5 accuracy, as fractions with their binomial standard errors.

    What does not depend on the weights is prepared once for each adapter and kept: tokens, and pixels up to
    `cache_megabytes`. The class embeddings do depend on them: they are computed once in each call of
    `evaluate` and never kept, since the same adapter holds other weights after every stage.

    Args:
        batch_size: images or prompts in one forward pass.
        cache_megabytes: memory that prepared pixels may take; a larger split is prepared anew each time.
    """

    def __init__(self, batch_size: int = 256, cache_megabytes: float = 256) -> None:
        problems = Problems("eval 'zero_shot'")
        problems.check(batch_size >= 1, f"batch_size is {batch_size}; it must be at least 1.")
        problems.check(cache_megabytes >= 0, f"cache_megabytes is {cache_megabytes}; it must not be negative.")
        problems.done()
        self.batch_size = batch_size
        self.cache_bytes = int(cache_megabytes * 1e6)
        self._pixels: WeakKeyDictionary[Adapter, WeakKeyDictionary[Split, list[Batch]]] = WeakKeyDictionary()
        self._tokens: WeakKeyDictionary[Adapter, dict[tuple[str, ...], list[Batch]]] = WeakKeyDictionary()

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Classify every image of `split` among `splits.class_names`. `details` holds the predictions in
        order.

        Raises:
            UserError: the model has no image or no text embeddings.
            WorkError: the embeddings are not finite.
        """
        training = adapter.module.training
        adapter.eval()
        try:
            with torch.inference_mode():
                classes = self.compute_text_embeddings(adapter, splits.class_names, splits.templates)
                scores = [
                    self._embed(adapter, batch, "image_embeds") @ classes.T for batch in self._images(adapter, split)
                ]
        finally:
            adapter.module.train(training)
        ranks, predictions = ranked(torch.cat(scores).cpu(), torch.from_numpy(split.labels))
        metrics = [_accuracy("accuracy", ranks, 1)]
        if len(splits.class_names) >= TOP_K:
            metrics.append(_accuracy(f"top{TOP_K}_accuracy", ranks, TOP_K))
        return Measurement(tuple(metrics), "accuracy", split.name, len(split), {"predictions": predictions.tolist()})

    def compute_text_embeddings(self, adapter: Adapter, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """One normalised embedding a class, (classes, D), of the weights as they are now."""
        texts = tuple(prompts(class_names, templates))
        kept = self._tokens.setdefault(adapter, {})
        if texts not in kept:
            starts = range(0, len(texts), self.batch_size)
            kept[texts] = [adapter.prepare(texts=texts[start : start + self.batch_size]) for start in starts]
        embeddings = torch.cat([self._embed(adapter, batch, "text_embeds") for batch in kept[texts]])
        return F.normalize(embeddings.unflatten(0, (len(class_names), len(templates))).mean(1), dim=-1)

    def _images(self, adapter: Adapter, split: Split) -> Iterator[Batch]:
        """The split's prepared pixels, batch after batch, kept for the next time while they fit."""
        splits = self._pixels.setdefault(adapter, WeakKeyDictionary())
        if split in splits:
            yield from splits[split]
            return
        batches: list[Batch] | None = []
        for start in range(0, len(split), self.batch_size):
            batch = adapter.prepare(images=split.pictures(start, start + self.batch_size))
            if batches is not None:
                batches.append(batch)
                held = sum(_nbytes(other) for kept in (*splits.values(), batches) for other in kept)
                if held > self.cache_bytes:
                    batches = None
            yield batch
        if batches is not None:
            splits[split] = batches

    def _embed(self, adapter: Adapter, batch: Batch, name: str) -> Tensor:
        outputs = adapter.outputs(batch)
        if name not in outputs:
            raise UserError(
                f"zero-shot classification needs '{name}', which the model '{adapter.name}' does not give;"
                f" its outputs are {', '.join(sorted(outputs))}."
            )
        embeddings = F.normalize(outputs[name].float(), dim=-1)
        if not bool(torch.isfinite(embeddings).all()):
            raise WorkError(f"the model's {name} hold NaN or infinite values; a weight or an activation overflowed.")
        return embeddings


def ranked(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of the true class of each item (0 is best) and the class predicted, (N,) each, from scores (N,
    classes).

    Among equal scores the class with the lower index comes first, in both.
    """
    own = scores.gather(1, labels[:, None])
    earlier = torch.arange(scores.shape[1])[None, :] < labels[:, None]
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks, scores.argmax(1)


def _accuracy(name: str, ranks: Tensor, k: int) -> Metric:
    share = float((ranks < k).double().mean())
    return Metric(name, share, "fraction", standard_error=math.sqrt(share * (1 - share) / len(ranks)))


def _nbytes(batch: Batch) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in batch.values())
