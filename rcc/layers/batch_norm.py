"""Fold what a batch norm does in evaluation into the layer before it, exactly, and leave the norm an identity.

In evaluation a batch norm is y = g (x − m) / √(v + ε) + b for each channel (Ioffe & Szegedy 2015), an affine map
y = s x + t with s = g / √(v + ε) and t = b − m s. Behind x = W z + c it is y = (s W) z + (s c + t): a scale for each
row of W and a bias (Jacob et al. 2018, section 3.2). The norm stays where it is, of the same class and with vectors of
the same shapes, so that whoever builds the network anew builds the same; these hold constants, which take few bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rcc.layers.form import Form

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
WIDEST = 7
"""A variance of 4⁷ and a weight of 2⁷ are whole in float16 and bfloat16 alike."""


def is_fixed(module: nn.Module) -> bool:
    """Whether `module` is a batch norm of torch's own with running statistics: an affine map in evaluation."""
    return type(module) in BATCH_NORMS and getattr(module, "running_mean", None) is not None


def affine(norm: Any) -> tuple[Tensor, Tensor]:
    """s and t (channels,), float64, of what `norm` does in evaluation: y = s x + t."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def with_affine(form: Form, scale: Tensor, shift: Tensor) -> Form:
    """The plain `form` (S and a bias alone) with y = s (S x + c) + t for S x + c; computed in float64."""
    sparse, bias = form.sparse, form.bias
    assert sparse is not None
    scale, shift = scale.to(sparse.device), shift.to(sparse.device)
    shifted = shift if bias is None else bias.detach().double() * scale + shift
    # A zero stays +0.0 under a negative scale too: −0.0 would be stored as a value.
    folded = (sparse.detach().double() * scale[:, None]).to(sparse.dtype) + 0.0
    return replace(form, sparse=folded, bias=shifted.to(sparse.dtype))


def is_folded(norm: Any) -> bool:
    """Whether a norm that `is_fixed` gives its input back in evaluation, as `make_identity_` leaves it: of one that was
    never trained ε is not made up for."""
    if any(tensor.is_meta for tensor in (*norm.parameters(), *norm.buffers())):
        return False
    scale, shift = affine(norm)
    return bool(((scale - 1).abs() < 1e-7).all()) and not bool(shift.any())


def is_without_statistics(norm: Any) -> bool:
    """Whether a norm that `is_fixed` has constants in place of what it met: it was folded, or made canonical."""
    if is_folded(norm):
        return True
    constant = not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())
    if not constant or norm.weight is None:
        return False
    untrained = not int(norm.num_batches_tracked) and bool((norm.weight == 1).all()) and not bool(norm.bias.any())
    return not untrained


def stay_in_evaluation(norm: nn.Module, inputs: Any) -> None:
    """A hook before the forward of a norm without statistics, whatever mode its network is put in."""
    norm.training = False


@torch.no_grad()
def make_identity_(norm: Any) -> None:
    """Let `norm` give its input back in evaluation, to the bit wherever ε is lost beside a power of 4 up to 4⁷.

    Constants, of which each is whole in 16 bits too: mean 0, bias 0, variance 4ᵏ and weight 2ᵏ for the least k that
    makes √(4ᵏ + ε) just 2ᵏ, k = 7 at most. Without a weight the variance is 1 − ε.
    """
    norm.running_mean.zero_()
    if norm.bias is not None:
        norm.bias.zero_()
    if norm.weight is None:
        norm.running_var.fill_(1 - norm.eps)
        return
    variance = torch.full((), 4.0**WIDEST, dtype=norm.running_var.dtype)
    for power in range(WIDEST):
        tried = torch.full_like(variance, 4.0**power)
        if bool(tried + norm.eps == tried):
            variance = tried
            break
    norm.running_var.fill_(float(variance))
    norm.weight.fill_(float(variance) ** 0.5)


@torch.no_grad()
def make_canonical_(norm: Any) -> None:
    """Let `norm`, which has a weight and a bias, do what it does with the statistics mean 0 and variance 1."""
    scale, shift = affine(norm)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.copy_(scale * (1 + norm.eps) ** 0.5)
    norm.bias.copy_(shift)


def constant_values(norm: Any) -> int:
    """Values of the norm's vectors that are equal to the first of theirs: what storing one of each saves."""
    vectors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return sum(len(each) for each in vectors if each is not None and bool((each == each[0]).all()))
