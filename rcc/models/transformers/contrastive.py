"""Compute the symmetric contrastive loss of CLIP, for batches in which several pairs may match.

Source: InfoNCE over both directions as in Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision" (2021), figure 3; several positives share the target evenly, as "SupCon out" of Khosla
et al. (2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(logits_per_image: Tensor, groups: Tensor | None = None) -> Tensor:
    """Mean of the image → text and the text → image cross-entropy, a scalar.

    Args:
        logits_per_image: (N, N), scaled similarity of image i to text j.
        groups: (N,) integers; pairs of one group match each other, and each has an equal share of the target.
            None means that pair i matches only itself: the loss of transformers' CLIPModel. Texts that are equal
            share the target evenly even then, because their logits are.
    """
    if groups is None:
        targets = torch.arange(len(logits_per_image), device=logits_per_image.device)
        return (F.cross_entropy(logits_per_image, targets) + F.cross_entropy(logits_per_image.T, targets)) / 2
    matches = (groups[:, None] == groups[None, :]).to(logits_per_image.dtype)
    shares = matches / matches.sum(1, keepdim=True)
    return (F.cross_entropy(logits_per_image, shares) + F.cross_entropy(logits_per_image.T, shares)) / 2
