"""Maths in the metric of a layer's inputs: the score of single values, and the truncation of the whole.

With H = E[x xᵀ] the mean squared change of the output by a change D of the weight is ‖D H^½‖² in the Frobenius
norm. Shapes: weights (m, n), H (n, n), E[x²] = diag H (n,).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.ops.factorise import Svd, settled, thin_svd

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


def metric_svd(matrix: Tensor, moment: Tensor, precision: str = "auto") -> Svd:
    """W = U diag(values) V with U orthonormal and V H Vᵀ = I: its first r terms are, of all matrices of rank r,
    the nearest to W in ‖· H^½‖. The squared error is the sum of the squared values dropped.

    Args:
        matrix: W (m, n).
        moment: H (n, n), positive definite.
        precision: as for `thin_svd`; 'auto' is float64.

    Where m ≤ n: W H Wᵀ = U diag(values²) Uᵀ, and V = Uᵀ W / values; H is neither inverted nor decomposed. Else
    from the thin SVD of W H^½ and H^-½.

    Raises:
        ValueError: shapes that do not fit, or a NaN or an infinity in either.
    """
    dtype = torch.float32 if precision == "float32" else torch.float64
    work = matrix.detach().to("cpu" if matrix.device.type == "mps" else matrix.device, dtype)
    moment = moment.to(work.device, dtype)
    if work.dim() != 2 or moment.shape != (work.shape[1], work.shape[1]):
        raise ValueError(f"a weight {tuple(matrix.shape)} and a moment {tuple(moment.shape)} do not fit")
    if not bool(torch.isfinite(work).all() and torch.isfinite(moment).all()):
        raise ValueError("the weight or the moment of its inputs holds a NaN or an infinity")
    live_rows, live_columns = (work != 0).any(1), (work != 0).any(0)
    if work.shape[0] <= work.shape[1]:
        gram = work @ moment @ work.T
        squares, vectors = torch.linalg.eigh((gram + gram.T) / 2)
        values, left = squares.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
        right = left.T @ work
        # Where the value vanishes so does Uᵀ W, for H is definite.
        present = values > torch.finfo(dtype).eps * values[0]
        right = torch.where(present[:, None], right / values.masked_fill(~present, 1.0)[:, None], 0.0)
        return settled(Svd(left, values, right), live_rows, live_columns)
    squares, vectors = torch.linalg.eigh(moment)
    root = squares.clamp_min(torch.finfo(dtype).eps * float(squares[-1])).sqrt()
    svd = thin_svd(work @ (vectors * root), precision)
    return settled(Svd(svd.left, svd.values, (svd.right / root) @ vectors.T), live_rows, live_columns)


def metric_svd_of_product(left: Tensor, right: Tensor, moment: Tensor, precision: str = "auto") -> Svd:
    """`metric_svd` of left @ right, (m, r) and (r, n), by the QR of `left` and a core of r rows."""
    dtype = torch.float32 if precision == "float32" else torch.float64
    device = "cpu" if left.device.type == "mps" else left.device
    first, last = left.detach().to(device, dtype), right.detach().to(device, dtype)
    basis, core = torch.linalg.qr(first)
    svd = metric_svd(core @ last, moment, precision)
    return settled(Svd(basis @ svd.left, svd.values, svd.right), (first != 0).any(1), (last != 0).any(0))
