"""Projecting a layer's output out of a subspace, in the S + U V form: W and b times (I - Dᵀ D) from the left.

The edit of Nullu (Yang et al. 2025, see docs/method/nullu.md). The bias is projected with the weight, so that
the layer's whole output is orthogonal to the subspace.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rcc.layers.encoding import encoded_bytes
from rcc.layers.form import Form
from rcc.ops.nonzeros import count_nonzeros
from rcc.ops.subspace import project_out


def matrix_bytes(form: Form, itemsize: int) -> int:
    """Bytes of a form's matrices as the artifact would write them."""
    return sum(encoded_bytes(matrix.numel(), count_nonzeros(matrix), itemsize) for _, matrix in form.matrices())


def projected(form: Form, directions: Tensor, factorable: bool, itemsize: int) -> Form:
    """`form` without its output along the orthonormal rows of `directions` (k, out), the smaller of two ways.

    A dense S is projected in place. A pruned S would fill up; where the module can hold a low-rank pair, S
    stays as it is and the correction - Dᵀ (D (S + U V)), of rank k, is put beside U V.
    """
    form = form.folded()
    bias = None if form.bias is None else project_out(form.bias[:, None], directions)[:, 0]
    in_place = replace(
        form,
        sparse=None if form.sparse is None else project_out(form.sparse, directions),
        left=None if form.left is None else project_out(form.left, directions),
        bias=bias,
    )
    if form.sparse is None or not factorable:
        return in_place
    weight = form.dense()
    rows = directions.to(weight.device, torch.float64)
    left, right = -rows.T.to(weight.dtype), (rows @ weight.double()).to(weight.dtype)
    if form.left is not None and form.right is not None:
        left, right = torch.cat([form.left, left], 1), torch.cat([form.right, right], 0)
    beside = replace(form, left=left.contiguous(), right=right.contiguous(), bias=bias)
    return min(in_place, beside, key=lambda candidate: matrix_bytes(candidate, itemsize))
