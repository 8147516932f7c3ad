"""Leave padding out of what layers are given and return: the attention mask of a batch tells it."""

from __future__ import annotations

from torch import Tensor

from rcc.layers.model import Batch

MASK = "attention_mask"


def mask_of(batch: Batch) -> Tensor | None:
    """(batch, length), not zero where a token counts; None where the batch has no such entry."""
    return batch.get(MASK)


def without_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """The values (n, …) of the tokens that count, of (batch, length, …); any other shape is returned as it is.

    Shape alone tells which tensors the mask speaks of: the inputs of a model's image tower, say, and of a pooled layer
    pass through the same hooks and are not of these tokens.
    """
    if mask is None or values.dim() <= 2 or values.shape[:2] != mask.shape:
        return values
    return values[mask.to(values.device) != 0]
