"""Recompute the activations of marked blocks in the backward pass of a model in evaluation mode.

transformers marks blocks (`gradient_checkpointing`), and heeds the mark in training mode alone; gradients for
importance and scales are taken in evaluation mode. Source of the method: Chen et al. 2016, arXiv:1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

CACHES = ("cache", "layer_past", "past_key_values")
"""Arguments of a decoder's block that it writes its keys and values to."""


def marked_blocks(module: nn.Module) -> list[nn.Module]:
    """The innermost parts with a true `gradient_checkpointing`.

    transformers marks what contains the blocks too; recomputing a whole tower at once would save nothing at the peak.
    """
    marked = [part for part in module.modules() if getattr(part, "gradient_checkpointing", False) is True]
    return [part for part in marked if not any(inner in marked for inner in list(part.modules())[1:])]


@contextmanager
def checkpointed_activations(module: nn.Module) -> Iterator[None]:
    """Inside, each marked block keeps its inputs alone for the backward pass, which calls its forward once more.

    Gradients are those of the plain pass. Modes stay as they are, so that dropout remains off; a pass without gradients
    is a plain one. Forward hooks on parts of a block run again in the recomputation, those on the block itself do not.
    """
    blocks = marked_blocks(module)
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        # On the object, not by its training flag: a block that calls F.dropout(training=self.training) itself would
        # drop values.
        block.forward = _recomputed(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # A cache would be written a second time in the recomputation; nothing reads it in a pass over whole texts.
        kwargs |= {name: None for name in CACHES if name in kwargs}
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return call
