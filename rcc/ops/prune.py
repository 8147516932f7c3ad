"""Apply a pruning decision to tensors: masking, rescaling, dropping deltas.

Shapes: weights (out, in); masks are true where a value goes. Zeros that are written are +0.0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.select import Threshold


def prune_(tensor: Tensor, gone: Tensor | Threshold) -> Tensor:
    """`tensor` itself, with +0.0 written over the values that `gone`, a mask or a threshold, says are to go."""
    return gone.zero_(tensor) if isinstance(gone, Threshold) else tensor.masked_fill_(gone, 0.0)


def rescale(tensor: Tensor, factor: float | Tensor) -> Tensor:
    """`factor · tensor` with zeros left as +0.0; `factor` is a number, or broadcasts as (out, 1) to rows.

    A product that underflows in the tensor's dtype becomes zero, as in any multiplication.
    """
    scaled = (tensor * factor).to(tensor.dtype)
    return scaled.masked_fill_(scaled == 0, 0.0)


def survival_factor(nonzeros_before: int, nonzeros_after: int) -> float:
    """The factor that keeps a sum unbiased when some of its terms are dropped at random: before / after.

    For a tensor without zeros of which a share p was dropped this is 1/(1 − p), the factor of DARE (Yu et al.
    2023). Counting the non-zeros on both sides keeps it right when dropping happens in several steps. It
    holds for a *random* drop; after dropping the smallest magnitudes it overshoots. 1 when nothing is left.
    """
    return nonzeros_before / nonzeros_after if nonzeros_after else 1.0


def least_squares_factor(cross: Tensor, energy: Tensor) -> Tensor:
    """The factor a (out,) of each row that minimises the sum over samples of (y − a·ŷ)².

    Args:
        cross: Σ y·ŷ (out,), the wanted output times the one there is.
        energy: Σ ŷ² (out,).

    In terms of weights w and ŵ and the inputs' second moment H it is (w H ŵ) / (ŵ H ŵ). Where ŵ is w with
    entries set to zero and H is diagonal, or unknown and taken as the identity, both are the sum of
    H_jj w_j² over what is kept, and a = 1: only correlated inputs can make it anything else. Rows that put
    out nothing get 1.
    """
    silent = energy <= 0
    return torch.where(silent, torch.ones_like(energy), cross / energy.masked_fill(silent, 1.0))


def delta(weight: Tensor, base: Tensor) -> Tensor:
    """W − W_base in float32 or wider: zero exactly where the two are equal."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return weight.to(wide) - base.to(wide)


def add_delta(base: Tensor, change: Tensor, dtype: torch.dtype) -> Tensor:
    """W_base + change as `dtype`: W_base bit for bit where the change is zero."""
    return torch.where(change == 0, base.to(change.dtype), base + change).to(dtype)


def squared_norm(tensor: Tensor, mask: Tensor | None = None) -> float:
    """Σ w², accumulated in float64; of the values where `mask` is true, if there is one."""
    tensor = tensor.detach() if mask is None else tensor.detach().masked_fill(~mask, 0.0)
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


def relative_error(original: Tensor, now: Tensor) -> float:
    """‖W − W_now‖ / ‖W‖ in the Frobenius norm; 0 for equal weights, infinite where W alone is zero."""
    error = squared_norm(now.float() - original.float())
    energy = squared_norm(original)
    if error == 0:
        return 0.0
    return (error / energy) ** 0.5 if energy else float("inf")
