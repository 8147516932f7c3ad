"""Compute a classifier's training loss: the cross-entropy of its logits to the labels of the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.batches import LABELS

LOGITS = "logits"


def classification_loss(adapter: Adapter, batch: Batch) -> Tensor:
    """Mean cross-entropy of the batch's `labels` (B,), indices into the logits (B, classes); a scalar.

    Raises:
        UserError: the batch has no labels, or the model gives no logits.
    """
    if LABELS not in batch:
        raise UserError(f"the loss of a classifier needs labels; this batch has {sorted(batch)}.")
    outputs = adapter.outputs(batch)
    if LOGITS not in outputs:
        raise UserError(f"the loss of a classifier is that of its logits; '{adapter.name}' gives {', '.join(outputs)}.")
    return F.cross_entropy(outputs[LOGITS], batch[LABELS])
