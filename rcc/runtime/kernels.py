"""List the kernels that can run a linear unit: the layout of its form and the arithmetic of its products.

`as stored` is the unit's own module. In the others a low-rank pair stays two products, or is `composed`: U V is
multiplied out and S added beforehand, which pays where that takes fewer operations or the layer is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.runtime.products import CsrProduct, Int8Product, PackedProduct, TorchProduct, has_int8, packs

STORED, PLAIN, PACKED, INT8, INT8_BY_ROW, CSR = "as stored", "plain", "packed", "int8", "int8 by row", "csr"
ALLOWED = {
    "auto": (STORED, PLAIN, PACKED, INT8, INT8_BY_ROW, CSR),
    "bf16": (STORED, PLAIN, PACKED),
    "int8": (INT8, INT8_BY_ROW),
    "csr": (CSR,),
}
"""For each choice of `runtime=` the arithmetics it may use."""

LEAST_SPARSITY = 0.5  # of a matrix, for CSR to be tried


@dataclass(frozen=True)
class Kernel:
    """`arithmetic` is one of those above but `as stored`; `composed` multiplies by one matrix whatever the form is."""

    arithmetic: str
    composed: bool = False

    @property
    def name(self) -> str:
        return f"{self.arithmetic} composed" if self.composed else self.arithmetic

    def build(self, form: Form, dtype: torch.dtype) -> nn.Module:
        """The module that computes `form` with inputs and outputs in `dtype`.

        `csr` is for the matrices that are sparse enough; the others run as `packed` does.
        """
        form = form.folded()
        if self.composed:
            form = Form(sparse=form.dense(), bias=form.bias)
        if form.left is None or form.right is None:
            assert form.sparse is not None
            return self._product(form.sparse, form.bias, dtype, form.sparse_step)
        right = self._product(form.right, None, dtype, form.right_step)
        left = self._product(form.left, form.bias, dtype, form.left_step)
        sparse = None if form.sparse is None else self._product(form.sparse, None, dtype, form.sparse_step)
        return FormKernel(right, left, sparse)

    def _product(self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype, step: Tensor | None) -> nn.Module:
        if self.arithmetic == CSR and sparsity(matrix) >= LEAST_SPARSITY:
            return CsrProduct(matrix, bias, dtype)
        if self.arithmetic in (INT8, INT8_BY_ROW):
            return Int8Product(matrix, bias, dtype, step, by_row=self.arithmetic == INT8_BY_ROW)
        packed = self.arithmetic != PLAIN and matrix.device.type == "cpu" and packs(dtype)
        return (PackedProduct if packed else TorchProduct)(matrix, bias, dtype)


class FormKernel(nn.Module):
    """y = U (V x) + b, and S x where there is one, for x of shape (..., in)."""

    def __init__(self, right: nn.Module, left: nn.Module, sparse: nn.Module | None) -> None:
        super().__init__()
        self.right, self.left, self.sparse = right, left, sparse

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.left(self.right(input))
        return output if self.sparse is None else output.add_(self.sparse(input))


def kernels(
    form: Form, dtype: torch.dtype, choice: str, device: torch.device, patches: bool = False
) -> Iterator[Kernel]:
    """What can be tried for a unit of this form besides its own module.

    Args:
        dtype: the model's while it runs.
        choice: one of `ALLOWED`.
        patches: whether the unit is a convolution whose windows do not overlap, and so no product by itself.
    """
    on_cpu = device.type == "cpu"
    int8 = on_cpu and has_int8() and dtype in (torch.float32, torch.bfloat16)
    possible = {
        PLAIN: True,
        PACKED: on_cpu and packs(dtype),
        INT8: int8,
        INT8_BY_ROW: int8,
        CSR: any(sparsity(matrix) >= LEAST_SPARSITY for _, matrix in form.matrices()),
    }
    for arithmetic in ALLOWED[choice]:
        if not possible.get(arithmetic):
            continue
        if arithmetic != PLAIN or patches:  # a linear unit's own module does just that
            yield Kernel(arithmetic)
        if form.left is not None and arithmetic != CSR:
            yield Kernel(arithmetic, composed=True)


def sparsity(matrix: Tensor) -> float:
    """Share of zeros."""
    return 1 - int(torch.count_nonzero(matrix)) / matrix.numel()
