"""Sweep over the columns of a weight: each is decided in turn, and later ones compensate its error.

With H = M Mᵀ, M upper triangular, the objective around its minimum W is ‖(W − V) M‖², whose column j is
M_jj (w_j − v_j) + Σ_{k<j} M_kj (w_k − v_k): column j does best near w_j + Σ_{k<j} (w_k − v_k) M_kj / M_jj, whatever
is asked of it. This is the column-by-column update of GPTQ and SparseGPT (Frantar et al. 2022; Frantar & Alistarh
2023), written without H⁻¹ (Chee et al. 2023, "QuIP", theorem 6). With H itself for M it is cyclic coordinate descent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rcc.ops.groups import add_product_

LEAF = 16
"""Columns whose errors are spread one by one; beyond them by products of matrices."""

Decide = Callable[[int, Tensor], Tensor]
"""Takes a column's number and what it would best be (out,), and gives what it becomes. Of groups (groups, out)."""


def upper_factor(moment: Tensor) -> Tensor:
    """M (…, in, in), upper triangular with a positive diagonal and M Mᵀ = `moment`.

    M_jj² is the variance of input j that the inputs after it do not tell, 1 / [(H_{j:,j:})⁻¹]_jj, and M⁻¹ is the
    upper Cholesky factor of H⁻¹ that the papers use.

    Raises:
        torch.linalg.LinAlgError: `moment` is not positive definite; damp it.
    """
    # The lower factor of the matrix with rows and columns reversed, reversed again, is upper triangular.
    return torch.linalg.cholesky(moment.flip(-2, -1)).flip(-2, -1)


def descending(sizes: Tensor, group: int = 1) -> Tensor:
    """The order of columns in which those with the largest mean of `sizes` (…, in) come first, `group` consecutive ones
    staying together; equal ones in their own order. Errors made early have the most columns left to make up for them.
    """
    order = sizes.unflatten(-1, (-1, group)).mean(-1).argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(sizes.shape[-1], device=sizes.device).view(-1, group)
    return places[order].flatten(-2)


def sweep(
    start: Tensor,
    wanted: Tensor,
    feedback: Tensor,
    settle: Callable[[int, Tensor], Decide],
    block: int = 128,
) -> Tensor:
    """V (out, in), column by column from the first to the last.

    Of groups all matrices are as many, (groups, out, in) and (groups, in, in), and the same column of all of them is
    decided at once.

    Args:
        start: W (out, in), what changes are counted from.
        wanted: what each column would best be with all before it as they start (out, in); W itself at a minimum.
        feedback: F (in, in), of which what is above the diagonal is read: a change w_k − v_k moves what column j > k
            would best be by F_kj times as much.
        settle: called at the start of each block of columns, for what can only be decided for them together; gives
            what decides each. It is told the first one's number and, for each (…, columns, out), what it would best be
            if those before it in the block stayed as they start.
        block: columns settled together.

    Costs in²·out multiply-adds, nearly all in matrix products: blocks and what lies in them are halved again and
    again, and the changes of each half reach the other in one product.
    """
    # Rows are columns from here on, so that each is contiguous.
    targets = wanted.mT.clone(memory_format=torch.contiguous_format)
    changes = start.mT.clone(memory_format=torch.contiguous_format)

    def tell(low: int, middle: int, high: int) -> None:
        """Spread the changes of the columns before `middle` to those after it."""
        told = feedback[..., low:middle, middle:high].mT
        add_product_(targets[..., middle:high, :], told, changes[..., low:middle, :])

    def run_block(low: int, high: int) -> None:
        decide = settle(low, targets[..., low:high, :])

        def run_columns(low: int, high: int) -> None:
            for column in range(low, high):
                changed, value = changes[..., column, :], targets[..., column, :]
                value.copy_(decide(column, value))
                changed -= value
                # To the end of these columns; what lies beyond is told once they are all decided.
                told = feedback[..., column, column + 1 : high, None]
                targets[..., column + 1 : high, :].addcmul_(told, changed[..., None, :])

        _halve(low, high, LEAF, run_columns, tell)

    _halve(0, targets.shape[-2], block, run_block, tell)
    return targets.mT


def _halve(
    low: int, high: int, least: int, run: Callable[[int, int], None], tell: Callable[[int, int, int], None]
) -> None:
    """Run columns `low` to `high` in parts of `least`, the first half and, once that was told to it, the second.

    A function inside `sweep` that called itself would keep the matrices alive until Python looks for cycles.
    """
    if high - low <= least:
        run(low, high)
        return
    middle = low + least * (-(-(high - low) // least) // 2)
    _halve(low, middle, least, run, tell)
    tell(low, middle, high)
    _halve(middle, high, least, run, tell)
