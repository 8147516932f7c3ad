"""Count the floating-point operations of one pass: executed, zeros included, and in theory, without them.

Counted are the products: linear layers, convolutions, attention. A multiplication and an addition are two. Element-wise
work, norms and softmax are not counted, as is usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rcc.layers.units import Unit
from rcc.ops.nonzeros import count_nonzeros


@torch.no_grad()
def executed_flops(run: Callable[[], object]) -> int:
    """Operations of the products that really run in one call of `run`.

    torch's own counter, taught the kernels of `rcc.runtime`: oneDNN's products, and sparse rows, which multiply
    their non-zeros alone.
    """
    mapping: dict[Any, Any] = {torch.ops.aten.addmm: _addmm}
    for library, name in (("mkldnn", "_linear_pointwise"), ("onednn", "qlinear_pointwise")):
        operation = getattr(getattr(torch.ops, library), name, None)
        if operation is not None:
            mapping[operation] = _linear
    mapping[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = _attention
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return int(counter.get_total_flops())


@torch.no_grad()
def theoretical_flops(run: Callable[[], object], units: Sequence[Unit]) -> int:
    """`executed_flops` less two for every stored zero of `units` at every position it is multiplied at.

    The units must be as they were loaded: plain modules, or those that compute with a form as it is stored.
    """
    positions: Counter[str] = Counter()
    outputs: Counter[str] = Counter()  # positions at which U is multiplied, those of the output
    handles = []
    for unit in units:

        def hook(module: Any, inputs: Any, named: Any, output: Tensor, unit: Unit = unit) -> None:
            given = inputs[0] if inputs else next(iter(named.values()))
            places = output.numel() // unit.shape[0]
            outputs[unit.name] += places
            # A transposed convolution multiplies its kernel with each pixel that it is given.
            transposed = getattr(module, "transposed", False)
            positions[unit.name] += given.numel() // module.in_channels if transposed else places

        if unit.kind in ("linear", "conv"):
            handles.append(unit.module.register_forward_hook(hook, with_kwargs=True))
    try:
        executed = executed_flops(run)
    finally:
        for handle in handles:
            handle.remove()
    forms = {unit.name: unit.read() for unit in units if positions[unit.name]}
    saved = 0
    for name, form in forms.items():
        for part, matrix in form.matrices():
            zeros = matrix.numel() - count_nonzeros(matrix)
            saved += 2 * zeros * (outputs if part == "left" else positions)[name]
    return executed - saved


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *_: Any, out_val: Any = None, **__: Any) -> int:
    multiplied = left._nnz() if left.layout is torch.sparse_csr else left.numel()
    return 2 * multiplied * right.shape[1]


_addmm._get_raw = True  # type: ignore[attr-defined]


def _linear(input: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * input[-1] * out_shape.numel()


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[-2] * (width + value[-1])
