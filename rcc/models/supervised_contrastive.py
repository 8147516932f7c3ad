"""Compute the supervised contrastive loss of embeddings with labels: items of one class together, others apart.

It is the field's usual loss for embeddings that are to be compared by cosine: unlike a classifier's cross-entropy it
adds no head that would be thrown away, and unlike a triplet's it looks at all pairs of a batch. Source: Khosla et al.,
"Supervised Contrastive Learning", NeurIPS 2020, equation 2 (L_out), whose temperature of 0.1 is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.errors import UserError

TEMPERATURE = 0.1


def supervised_contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The mean over items with a positive of −1/|P(i)| Σ_p log softmax_{a ≠ i}(z_i · z_a / τ)_p; a scalar.

    Args:
        embeddings: (B, D) of length 1.
        labels: (B,) classes.

    Raises:
        UserError: no two items are of one class, so that there is nothing to bring together.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels[None]) & ~itself
    if not bool(positive.any()):
        raise UserError(
            f"the contrastive loss needs two items of one class in a batch; each of these {len(labels)} has a class of"
            " its own. Take larger batches."
        )
    similarity = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf)
    logs = similarity.log_softmax(1).masked_fill(~positive, 0.0)
    counts = positive.sum(1)
    return -(logs.sum(1)[counts > 0] / counts[counts > 0]).mean()
