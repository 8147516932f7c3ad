"""Find among a module's tensors those that training treats in a way of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

HIGHEST_SCALE = math.log(100)
"""Of a model's `logit_scale`, a logarithm; Radford et al. (2021), arXiv:2103.00020, section 2.5."""


def logit_scales(module: nn.Module) -> list[Tensor]:
    """The scalar parameters called `logit_scale`."""
    named = module.named_parameters()
    return [each for name, each in named if name.split(".")[-1] == "logit_scale" and each.dim() == 0]


@torch.no_grad()
def clamp_scales(scales: Sequence[Tensor]) -> None:
    """Bound each by ln 100, in place."""
    for scale in scales:
        scale.clamp_(max=HIGHEST_SCALE)


def batch_norm_counts(module: nn.Module) -> list[Tensor]:
    """What forward passes of batch norms count: running means, variances and numbers of batches."""
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
