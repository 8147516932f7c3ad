"""Score single values in the metric of a layer's inputs. Shapes: weights (m, n), E[x²] (n,)."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-6
"""No input counts for less than this share of the mean: among inputs that never fired magnitude decides."""


def activation_score(weight: Tensor, moment: Tensor, behind: Tensor | None = None) -> Tensor:
    """|wᵢⱼ| · √E[xⱼ²] (m, n), in float32 or wider: what the output changes by when one value goes (Sun et al. 2023).

    Args:
        weight: (m, n).
        moment: E[x²] (n,), or (m, n) where rows have inputs of their own. All zero means unknown: taken as ones.
        behind: (m,), what each row's output is multiplied with on its way to the layer's output, as a norm.

    A score is zero where the weight is, and nowhere else, so that zeros can be told from what may yet go.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    size = moment.sqrt()
    size = size.clamp_min(LEAST * float(size.mean())) if bool(size.any()) else torch.ones_like(size)
    score = weight.abs().to(wide) * size.to(weight.device, wide)
    if behind is not None:
        score *= behind.to(weight.device, wide)[:, None]
    return score.clamp_min_(torch.finfo(wide).tiny).masked_fill_(weight == 0, 0.0)
