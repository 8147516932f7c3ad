"""CLIPScore: how well a caption fits its image, judged by the embeddings of another model; no reference needed.

Source: Hessel et al. (2021), *CLIPScore: A Reference-free Evaluation Metric for Image Captioning*, section 3. D is the
dimension of the embeddings, N the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.splits import Split
from rcc.evaluation.captioning.corpus import CaptionScore
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.models.registry import adapter_for, load_model

WEIGHT = 2.5
PREFIX = "A photo depicts "
MEGABYTES = 64  # 25,000 references of 512 dimensions are 51


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
    """A model with image and text embeddings that scores captions. Images and references are encoded once.

    Args:
        path: the checkpoint directory or hub name of the model.
        batch_size: images or texts in one forward pass.
    """

    def __init__(self, path: str, batch_size: int) -> None:
        """Raises:
        UserError: it cannot be found or loaded.
        """
        self.path = path
        self.model = load_model(adapter_for(path), path=path)
        self.cache = EmbeddingCache(batch_size, megabytes=MEGABYTES)

    def scores(self, split: Split, predictions: Sequence[str]) -> list[CaptionScore]:
        """CLIP-S and RefCLIP-S of one caption for each image of the split.

        Raises:
            UserError: the judge has no embeddings of images or none of texts.
        """
        images = self.cache.images(self.model, split)
        counts = [len(written) for written in split.captions]
        references = self._texts(chain.from_iterable(split.captions)).split(counts)
        captions = self._texts(predictions)
        found = {
            "clip_score": clip_score(images, captions),
            "ref_clip_score": ref_clip_score(images, captions, references),
        }
        return [CaptionScore.mean(name, values.tolist()) for name, values in found.items()]

    def _texts(self, texts: Iterable[str]) -> Tensor:
        return self.cache.texts(self.model, [PREFIX + text for text in texts])
