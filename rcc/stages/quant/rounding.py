"""Forms on grids: the stored matrices of a unit rounded to whole multiples of a step for each row.

Plain rounding takes each matrix by itself. Rounding with feedback minimises the calibration objective over the grids:
V first, then U on what the rounded V gives, then S on what the two leave over, so that each makes up for the errors of
those before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from rcc.layers.encoding import encoded_bytes
from rcc.layers.form import Form
from rcc.ops.grid import quantise, round_to_grid
from rcc.ops.groups import for_rows
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit
from rcc.stages.quant.allocation import Grid, Spaced


def stepped(counts: Mapping[str, tuple[int, int]], rows: int, itemsize: int) -> dict[str, int]:
    """How many steps each matrix gets, of those that take fewer bytes with them than without.

    Args:
        counts: numel and non-zeros of the matrices of a form, by name.
        rows: outputs of the weight; V has a row for each column of U.
        itemsize: bytes of a value that is not rounded, and of a step.
    """
    found = {}
    for name, (numel, nonzeros) in counts.items():
        own = counts["left"][0] // rows if name == "right" else rows
        if encoded_bytes(numel, nonzeros, 1) + own * itemsize < encoded_bytes(numel, nonzeros, itemsize):
            found[name] = own
    return found


def nearest(form: Form, grids: Mapping[str, Grid | Spaced]) -> Form:
    """`form` with its matrices of these names rounded, each value by itself. It has no scale."""
    for name, grid in grids.items():
        matrix: Tensor = getattr(form, name)
        step = grid.steps(matrix)
        form = _put(form, name, round_to_grid(matrix, step, grid.levels, grid.rate), step)
    return form


def with_feedback(form: Form, grids: Mapping[str, Grid | Spaced], problem: Quadratic) -> Form:
    """`form` with its matrices of these names rounded to where `problem` is least, zeros kept. It has no scale.

    Before a matrix is rounded its values are moved to the minimum on its support (`refit`), which is what rounding
    errors are then counted from.

    Args:
        problem: for the whole weight S + U V, damped; of a grouped convolution, by group.

    Raises:
        torch.linalg.LinAlgError: the moment of the problem is not positive definite.
    """
    for name in ("right", "left", "sparse"):
        if name in grids:
            grid, matrix = grids[name], getattr(form, name)
            part, coupling = part_of(form, name, problem)
            best = refit(part, matrix != 0, matrix, coupling).to(matrix.dtype)
            step = grid.steps(best, for_rows(part.diagonal, len(best)))
            # How rows count together drops out of each column's best answer to the errors made before it.
            near = part if coupling is None else Quadratic.around(best, part.moment)
            form = _put(form, name, quantise(near, best, step, grid.levels, rate=grid.rate), step)
    return form


def part_of(form: Form, name: str, problem: Quadratic) -> tuple[Quadratic, Tensor | None]:
    """The objective as one of the matrix `name` alone, the others being as they are, and its coupling of rows.

    With R = G − S H what the pair should make of the inputs: of V it is tr(UᵀU V H Vᵀ) − 2 tr(V (UᵀR)ᵀ), and of U
    tr(U (V H Vᵀ) Uᵀ) − 2 tr(U (R Vᵀ)ᵀ), damped towards the U there is, because pruned rows of V may be alike.
    """
    moment, cross = problem.moment, problem.cross
    parts = (form.sparse, form.left, form.right)
    sparse, left, right = (None if one is None else one.to(moment.dtype) for one in parts)
    if name == "sparse":
        rest = cross if left is None or right is None else cross - left @ (right @ moment)
        return replace(problem, cross=rest), None
    assert left is not None
    assert right is not None
    rest = cross if sparse is None else cross - sparse @ moment
    if name == "right":
        return Quadratic(moment, left.T @ rest, problem.energy), left.T @ left
    seen = right @ moment
    return Quadratic(seen @ right.T, rest @ right.T, problem.energy).damped(left), None


def _put(form: Form, name: str, matrix: Tensor, step: Tensor) -> Form:
    return replace(form, **{name: matrix.to(step.dtype), f"{name}_step": step})
