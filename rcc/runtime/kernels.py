"""The kernels that a linear unit can run with, by name: how the form is laid out, and in which arithmetic.

`as stored` is the unit's own module. The others are a `KernelLinear`. A low-rank pair stays two products; `composed`
kernels multiply U V out (and add S) beforehand, which pays where U and V together are about as large as the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.runtime.products import CsrProduct, Int8Product, PackedProduct, TorchProduct, has_int8, packs

STORED = "as stored"
COMPOSED = " composed"
INT8, INT8_BY_ROW, PACKED, CSR = "int8", "int8 by row", "packed", "csr"
ALLOWED = {
    "auto": (STORED, PACKED, INT8, INT8_BY_ROW, CSR),
    "bf16": (STORED, PACKED),
    "int8": (INT8, INT8_BY_ROW),
    "csr": (CSR,),
}
"""For each choice of `runtime=` the arithmetics it may use."""

LEAST_SPARSITY = 0.5  # of a matrix, for CSR to be tried
WORTH_COMPOSING = 0.5  # share of the whole matrix that U and V must hold


class KernelLinear(nn.Module):
    """y = S x + U (V x) + b for x of shape (..., in), each product in an arithmetic of its own."""

    def __init__(self, sparse: nn.Module | None, right: nn.Module | None, left: nn.Module | None, dtype: torch.dtype):
        super().__init__()
        self.sparse, self.right, self.left, self.dtype = sparse, right, left, dtype

    def forward(self, input: Tensor) -> Tensor:
        input = input.to(self.dtype)
        if self.left is None or self.right is None:
            assert self.sparse is not None
            output: Tensor = self.sparse(input)
            return output
        output = self.left(self.right(input))
        return output if self.sparse is None else output.add_(self.sparse(input))


def kernels(form: Form, dtype: torch.dtype, choice: str, device: torch.device) -> Iterator[tuple[str, Form, str]]:
    """What can be tried for a linear unit: (name, the form it starts from, its arithmetic), `as stored` left out.

    Args:
        form: of the unit, in the dtype it was stored in.
        dtype: the model's while it runs.
        choice: one of `ALLOWED`.
    """
    allowed = ALLOWED[choice]
    form = form.folded()
    on_cpu = device.type == "cpu"
    possible = {
        PACKED: on_cpu and packs(dtype),
        INT8: on_cpu and has_int8(),
        INT8_BY_ROW: on_cpu and has_int8(),
        CSR: any(sparsity(matrix) >= LEAST_SPARSITY for _, matrix in form.matrices()),
    }
    composed = Form(sparse=form.dense(), bias=form.bias) if worth_composing(form) else None
    for arithmetic in allowed:
        if arithmetic != STORED and possible[arithmetic]:
            yield arithmetic, form, arithmetic
            if composed is not None and arithmetic != CSR:
                yield arithmetic + COMPOSED, composed, arithmetic


def build(form: Form, arithmetic: str, dtype: torch.dtype) -> KernelLinear:
    """The module that computes `form` (without `scale`) with inputs and outputs in `dtype`.

    `csr` is for the matrices that are sparse enough; the others run as `packed` does, or as plain torch does where
    oneDNN lacks the dtype.
    """
    last = form.bias
    sparse = right = left = None
    if form.left is not None and form.right is not None:
        right = _product(arithmetic, form.right, None, dtype, form.right_step)
        left = _product(arithmetic, form.left, last, dtype, form.left_step)
        last = None
    if form.sparse is not None:
        sparse = _product(arithmetic, form.sparse, last, dtype, form.sparse_step)
    return KernelLinear(sparse, right, left, dtype)


def _product(
    arithmetic: str, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype, step: Tensor | None
) -> nn.Module:
    if arithmetic == CSR and sparsity(matrix) >= LEAST_SPARSITY:
        return CsrProduct(matrix, bias, dtype)
    if arithmetic in (CSR, PACKED):
        packed = matrix.device.type == "cpu" and packs(dtype)
        return (PackedProduct if packed else TorchProduct)(matrix, bias, dtype)
    return Int8Product(matrix, bias, dtype, step, by_row=arithmetic == INT8_BY_ROW)


def sparsity(matrix: Tensor) -> float:
    """Share of zeros."""
    return 1 - int(torch.count_nonzero(matrix)) / matrix.numel()


def worth_composing(form: Form) -> bool:
    """Whether one product could be as fast as those of the form: U V beside S, or U and V nearly as large as U V."""
    if form.left is None or form.right is None:
        return False
    out, width = form.shape
    return form.sparse is not None or form.stored >= WORTH_COMPOSING * out * width
