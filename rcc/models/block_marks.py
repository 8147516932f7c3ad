"""Mark the blocks of a model for activation checkpointing (`gradient_checkpointing=true`)."""

from __future__ import annotations

from typing import Any

from torch import nn

from rcc.errors import UserError
from rcc.layers.activation_checkpointing import marked_blocks


def mark_blocks(module: nn.Module, who: str) -> None:
    """Let the blocks of a model of transformers be recomputed in every backward pass, in either mode.

    Args:
        who: the model in messages, as "model 'clip'".

    Raises:
        UserError: the model has no such blocks, so that the option would do nothing.
    """
    if getattr(module, "supports_gradient_checkpointing", False):
        model: Any = module
        model.activation_checkpointing_enable()
        # It also lets embeddings of frozen weights ask for gradients, which reentrant checkpoints need and these do
        # not; BLIP adds to the embeddings in place, which autograd then forbids.
        model.disable_input_require_grads()
    if not marked_blocks(module):
        raise UserError(
            f"{who}: gradient_checkpointing=true has no effect, {type(module).__name__} has no blocks that transformers"
            " can recompute. Leave the option out, and lower calibration.batch_size to save memory."
        )
