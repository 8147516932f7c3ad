"""Parametrise per-channel scales of a weight, and score the importance of each channel.

A weight is (out, …); a scale, a raw parameter and an importance are (out,).
"""

from __future__ import annotations

import torch
from torch import Tensor

IMPORTANCE = ("gradient", "magnitude", "taylor", "fisher")


def to_scale(raw: Tensor) -> Tensor:
    """2 · sigmoid(raw), in (0, 2): raw 0 is the identity, and a scale never changes a sign or dies."""
    return 2 * torch.sigmoid(raw)


def to_raw(scale: Tensor) -> Tensor:
    """The raw parameter of a scale, log(s / (2 - s)).

    Raises:
        ValueError: a scale outside (0, 2), which has no raw parameter.
    """
    if not bool(((scale > 0) & (scale < 2)).all()):
        raise ValueError("a scale must lie in (0, 2)")
    return torch.log(scale / (2 - scale))


def scale_channels(weight: Tensor, scale: Tensor) -> Tensor:
    """`weight` (out, …) with channel i multiplied by scale[i]; zeros stay zeros."""
    return weight * scale.view(-1, *[1] * (weight.dim() - 1))


def channel_norms(weight: Tensor) -> Tensor:
    """2-norm of each output channel of `weight` (out, …)."""
    return torch.linalg.vector_norm(weight.detach().float().flatten(1), dim=1)


def gate_sensitivity(weight: Tensor, gradient: Tensor) -> Tensor:
    """Σⱼ wᵢⱼ gᵢⱼ of each channel: the loss's derivative by a factor on that channel, at factor 1.

    Its magnitude is the first-order Taylor importance of removing the channel (Molchanov et al. 2019,
    "Importance Estimation for Neural Network Pruning", with a gate on the channel).
    """
    return (weight.detach().float() * gradient.detach().float()).flatten(1).sum(1)


def activation_sensitivity(activations: Tensor, gradient: Tensor) -> Tensor:
    """Mean |activation · gradient| of each channel over all else; the channels are the last dimension."""
    product = (activations.detach().float() * gradient.detach().float()).abs()
    return product.reshape(-1, product.shape[-1]).mean(0)


def normalised(scores: Tensor) -> Tensor:
    """`scores` over their largest, in [0, 1]; all zero where nothing is above zero, instead of NaN.

    Raises:
        ValueError: a score is negative, NaN or infinite.
    """
    if not bool((torch.isfinite(scores) & (scores >= 0)).all()):
        raise ValueError("an importance is negative, NaN or infinite")
    largest = scores.max()
    return scores / largest if bool(largest > 0) else torch.zeros_like(scores)
