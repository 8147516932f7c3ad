"""Compute one matrix product y = x Mᵀ + b in each arithmetic that torch has kernels of its own for.

Shapes: M (out, in), b (out,), x (..., in), y (..., out). These are for inference: no gradients, not saved.

Activations are quantised to uint8 around a zero point of 128. On processors without a signed 8-bit dot product oneDNN
computes int8 activations by its reference loop, a thousand times slower. The product takes plain int8 and
uint8 tensors: torch deprecates the quantised tensor types that `torch.ops.quantized.linear_dynamic` needs
(pytorch/pytorch issue 184982).
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.grid import LARGEST, to_grid

ZERO_POINT = 128
_TINY = 1e-30  # the largest absolute value of an input that is all zero
_BELOW = LARGEST - 0.5  # a scale in bfloat16 may be 2^-9 too large, and 128 does not fit


def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes `dtype` with weights that were laid out in advance."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_int8() -> bool:
    """Whether torch was built with oneDNN's int8 product on plain tensors."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")


class TorchProduct(nn.Module):
    """`F.linear` in `dtype`."""

    def __init__(self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.detach().to(dtype), requires_grad=False)
        self.bias = frozen(bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.to(self.matrix.dtype), self.matrix, self.bias)


class PackedProduct(nn.Module):
    """oneDNN's product with M laid out once, instead of at every call; the same values in the same dtype."""

    def __init__(self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(matrix.detach().to(dtype).contiguous(), None)
        self.bias, self.dtype = frozen(bias, dtype), dtype

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            input.to(self.dtype), self.packed, self.bias, "none", [], ""
        )
        return product


class Int8Product(nn.Module):
    """Weights in int8 with a step a row, activations in uint8 with a scale found anew at each call; sums in int32.

    M ≈ step[:, None] · q with q in [-127, 127]; x ≈ (p - 128) / inverse, where 127 / inverse is the largest |x| of
    the whole input, or of each row (`by_row`), which outliers in one row then cannot spoil for the others.

    Args:
        step: (out,), the grid M already lies on; None takes max |M| / 127 of each row, 1 for a row of zeros.
        dtype: of y.
    """

    def __init__(
        self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype, step: Tensor | None = None, by_row: bool = False
    ) -> None:
        super().__init__()
        if step is None:
            step = row_steps(matrix)
            whole = (matrix.detach().float() / step[:, None]).round_().to(torch.int8)
        else:
            whole = to_grid(matrix.detach(), step)
        self.packed = torch.ops.onednn.qlinear_prepack(whole.contiguous(), None)
        self.step = frozen(step, torch.float32)
        self.weight_zero = frozen(torch.zeros(len(step), dtype=torch.int32, device=matrix.device))
        self.bias = frozen(bias, dtype if by_row else torch.float32)
        self.dtype, self.by_row = dtype, by_row

    def forward(self, input: Tensor) -> Tensor:
        rows = input.to(self.dtype).reshape(-1, input.shape[-1])
        output = self._by_row(rows) if self.by_row else self._at_once(rows)
        return output.view(*input.shape[:-1], output.shape[-1])

    def _at_once(self, rows: Tensor) -> Tensor:
        low, high = torch.aminmax(rows)
        inverse = LARGEST / float(torch.maximum(high, -low).clamp_min(_TINY))
        return self._multiply(rows * inverse, 1 / inverse if inverse else float("inf"), self.bias)

    def _by_row(self, rows: Tensor) -> Tensor:
        inverse = _BELOW / rows.abs().amax(1, keepdim=True).clamp_min_(_TINY)
        product = self._multiply(rows * inverse, 1.0, None)
        scale = inverse.reciprocal_().to(self.dtype)
        return product.mul_(scale) if self.bias is None else torch.addcmul(self.bias, product, scale)

    def _multiply(self, scaled: Tensor, input_step: float, bias: Tensor | None) -> Tensor:
        whole = scaled.round_().to(torch.int8).view(torch.uint8).bitwise_xor_(ZERO_POINT)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, input_step, ZERO_POINT, self.packed, self.step, self.weight_zero, bias, 1.0, 0, self.dtype,
            "none", [], "",
        )  # fmt: skip
        return product


class CsrProduct(nn.Module):
    """Compressed sparse rows: as many multiplications as M has non-zeros. float32 inside, whatever comes in."""

    def __init__(self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            rows = matrix.detach().float().to_sparse_csr()
            self.rows = torch.sparse_csr_tensor(
                rows.crow_indices().int(), rows.col_indices().int(), rows.values(), rows.shape, check_invariants=False
            )
        if bias is None:
            bias = torch.zeros(len(matrix), device=matrix.device)
        self.bias = nn.Parameter(bias.detach().float()[:, None], requires_grad=False)
        self.dtype = dtype

    def forward(self, input: Tensor) -> Tensor:
        columns = input.reshape(-1, input.shape[-1]).float().t()
        output = torch.addmm(self.bias, self.rows, columns).t().to(self.dtype).contiguous()
        return output.view(*input.shape[:-1], output.shape[-1])


def row_steps(matrix: Tensor) -> Tensor:
    """max |M| / 127 of each row of `matrix` (out, in), in float32; 1 for a row of zeros."""
    step = matrix.detach().float().abs().amax(1) / LARGEST
    return torch.where(step > 0, step, 1.0)


def frozen(tensor: Tensor | None, dtype: torch.dtype | None = None) -> nn.Parameter | None:
    """A parameter without a gradient; None stays None."""
    return None if tensor is None else nn.Parameter(tensor.detach().to(dtype=dtype), requires_grad=False)
