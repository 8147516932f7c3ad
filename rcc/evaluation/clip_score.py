"""CLIPScore: how well a caption fits its image, judged by the embeddings of another model; no reference needed.

Source: Hessel et al. (2021), *CLIPScore: A Reference-free Evaluation Metric for Image Captioning*, section 3. D is the
dimension of the embeddings, N the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.evaluation.caption_corpus import CaptionScore
from rcc.models.adapter import Batch
from rcc.models.registry import load_model

WEIGHT = 2.5
PREFIX = "A photo depicts "


def clip_score(image_embeds: Tensor, caption_embeds: Tensor) -> Tensor:
    """CLIP-S of each pair, 2.5 · max(cos, 0), (N,), from two (N, D)."""
    return WEIGHT * F.cosine_similarity(image_embeds, caption_embeds, dim=-1).clamp(min=0)


def ref_clip_score(image_embeds: Tensor, caption_embeds: Tensor, reference_embeds: Sequence[Tensor]) -> Tensor:
    """RefCLIP-S of each pair, (N,): the harmonic mean of CLIP-S and the caption's largest cosine to one of its
    references, not below 0.

    Args:
        image_embeds: (N, D).
        caption_embeds: (N, D).
        reference_embeds: for each pair those of its references, (R_i, D), R_i ≥ 1.
    """
    to_image = clip_score(image_embeds, caption_embeds)
    pairs = zip(caption_embeds, reference_embeds, strict=True)
    to_references = torch.stack(
        [F.cosine_similarity(caption[None], written, dim=-1).max().clamp(min=0) for caption, written in pairs]
    )
    total = to_image + to_references
    return torch.where(total > 0, 2 * to_image * to_references / total.where(total > 0, torch.ones_like(total)), 0.0)


class Judge:
    """A model with image and text embeddings that scores captions. What it makes of a split's images and references is
    computed once and kept.

    Args:
        path: the checkpoint directory or hub name of the model.
        batch_size: images or texts in one forward pass.
    """

    def __init__(self, path: str, batch_size: int) -> None:
        self.path, self.batch_size = path, batch_size
        self.model = load_model("clip", path=path).eval()
        self._known: WeakKeyDictionary[Split, tuple[Tensor, list[Tensor]]] = WeakKeyDictionary()

    def scores(self, split: Split, predictions: Sequence[str]) -> list[CaptionScore]:
        """CLIP-S and RefCLIP-S of one caption for each image of the split."""
        with torch.inference_mode():
            if split not in self._known:
                self._known[split] = self._images(split), self._references(split)
            images, references = self._known[split]
            captions = self._texts(predictions)
            found = {
                "clip_score": clip_score(images, captions),
                "ref_clip_score": ref_clip_score(images, captions, references),
            }
        return [CaptionScore.mean(name, values.tolist()) for name, values in found.items()]

    def _images(self, split: Split) -> Tensor:
        starts = range(0, len(split), self.batch_size)
        batches = (self.model.prepare(images=split.pictures(start, start + self.batch_size)) for start in starts)
        return torch.cat([self._embedded(batch, "image_embeds") for batch in batches])

    def _references(self, split: Split) -> list[Tensor]:
        counts = [len(written) for written in split.captions]
        return list(self._texts(list(chain.from_iterable(split.captions))).split(counts))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        prefixed = [PREFIX + text for text in texts]
        starts = range(0, len(prefixed), self.batch_size)
        batches = (self.model.prepare(texts=prefixed[start : start + self.batch_size]) for start in starts)
        return torch.cat([self._embedded(batch, "text_embeds") for batch in batches])

    def _embedded(self, batch: Batch, name: str) -> Tensor:
        outputs = self.model.outputs(batch)
        if name not in outputs:
            raise UserError(
                f"eval 'captioning': the judge clip_score_model={self.path} gives no '{name}'; its outputs are"
                f" {', '.join(sorted(outputs))}."
            )
        return outputs[name].float().cpu()
