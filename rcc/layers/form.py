"""Define the one form of a compressed weight: W ≈ diag(a) (S + U V), and a bias.

Shapes: `sparse` S (out, in), `left` U (out, r), `right` V (r, in), `scale` a (out,), `bias` (out,).
A convolution is flattened to (out, in · kernel). A fresh layer is S = W alone.

A matrix may be quantised: then `sparse_step` (out,), `left_step` (out,) or `right_step` (r,) holds the step of each of
its rows, and the matrix is step[:, None] * q with whole numbers q in [-127, 127], which 8 bits a value store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rcc.layers.grid import from_grid, to_grid
from rcc.ops.nonzeros import count_nonzeros

MATRICES = ("sparse", "left", "right")
STEPS = tuple(f"{name}_step" for name in MATRICES)


@dataclass(frozen=True)
class Form:
    """W ≈ diag(scale) (sparse + left @ right), plus a bias. Tensors are shared, never copied."""

    sparse: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    scale: Tensor | None = None
    bias: Tensor | None = None
    sparse_step: Tensor | None = None
    left_step: Tensor | None = None
    right_step: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.left is None) != (self.right is None):
            raise ValueError("a low-rank part needs both left (out, r) and right (r, in)")
        if self.sparse is None and self.left is None:
            raise ValueError("a form needs a sparse part, a low-rank part, or both")
        if self.left is not None and self.right is not None:
            if self.left.shape[1] != self.right.shape[0]:
                raise ValueError(
                    f"left {tuple(self.left.shape)} and right {tuple(self.right.shape)} disagree on the rank"
                )
            low_rank = (self.left.shape[0], self.right.shape[1])
            if self.sparse is not None and tuple(self.sparse.shape) != low_rank:
                raise ValueError(f"sparse {tuple(self.sparse.shape)} and left @ right {low_rank} differ in shape")
        for name in ("scale", "bias"):
            vector = getattr(self, name)
            if vector is not None and tuple(vector.shape) != (self.shape[0],):
                raise ValueError(f"{name} {tuple(vector.shape)} does not fit {self.shape[0]} outputs")
        for name, step in self.steps():
            matrix = getattr(self, name)
            if matrix is None or tuple(step.shape) != (matrix.shape[0],):
                found = "there is none" if matrix is None else f"the matrix is {tuple(matrix.shape)}"
                raise ValueError(f"{name}_step {tuple(step.shape)} needs a matrix of as many rows, and {found}")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the whole weight."""
        if self.sparse is not None:
            return self.sparse.shape[0], self.sparse.shape[1]
        assert self.left is not None
        assert self.right is not None
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int | None:
        """Width of the low-rank part, or None where there is none."""
        return None if self.left is None else self.left.shape[1]

    def matrices(self) -> Iterator[tuple[str, Tensor]]:
        """The stored matrices by name: those of `sparse`, `left` and `right` that exist."""
        for name in MATRICES:
            matrix = getattr(self, name)
            if matrix is not None:
                yield name, matrix

    def steps(self) -> Iterator[tuple[str, Tensor]]:
        """The quantisation steps that exist, by the name of the matrix they belong to."""
        for name in MATRICES:
            step = getattr(self, f"{name}_step")
            if step is not None:
                yield name, step

    @property
    def quantised(self) -> bool:
        """Whether any matrix has steps."""
        return next(self.steps(), None) is not None

    @property
    def stored(self) -> int:
        """Values the matrices hold, zeros included."""
        return sum(matrix.numel() for _, matrix in self.matrices())

    @property
    def nonzeros(self) -> int:
        """Values the matrices hold that are not zero."""
        return sum(count_nonzeros(matrix) for _, matrix in self.matrices())

    def dense(self) -> Tensor:
        """diag(a) (S + U V) as one new (out, in) tensor; S itself where nothing else is there."""
        if self.left is not None and self.right is not None:
            weight = self.left @ self.right
            if self.sparse is not None:
                weight += self.sparse
        else:
            assert self.sparse is not None
            weight = self.sparse
        return weight if self.scale is None else weight * self.scale[:, None]

    def folded(self) -> Form:
        """The same weight with `scale` multiplied into S and U, and no `scale` left.

        Zeros stay +0.0: a negative scale would make -0.0 of them, which the encodings store as a value. A quantised
        matrix stays on its grid: its steps take the scale, its whole numbers the sign.

        Raises:
            ValueError: a matrix is not on the grid of its steps.
        """
        if self.scale is None:
            return self
        sparse, sparse_step = _scaled(self.sparse, self.sparse_step, self.scale)
        left, left_step = _scaled(self.left, self.left_step, self.scale)
        return replace(self, sparse=sparse, left=left, scale=None, sparse_step=sparse_step, left_step=left_step)

    def without_stale_steps(self) -> Form:
        """The same form with no steps for matrices that are not on their grid: what changing values makes of it.

        Pruning leaves a matrix on its grid. On the meta device, where there are no values, all steps stay.
        """
        stale = {f"{name}_step": None for name, step in self.steps() if not _fits(getattr(self, name), step)}
        return replace(self, **stale) if stale else self


def _fits(matrix: Tensor, step: Tensor) -> bool:
    """Whether `matrix` is on the grid of `step`, or has no values yet."""
    if matrix.is_meta or step.is_meta:
        return True
    try:
        to_grid(matrix, step)
    except ValueError:
        return False
    return True


def _scaled(matrix: Tensor | None, step: Tensor | None, scale: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """A matrix with its rows multiplied by `scale`, and its steps where it has any."""
    if matrix is None:
        return None, None
    if step is None:
        return matrix * scale[:, None] + 0.0, None
    whole = to_grid(matrix, step) * torch.sign(scale)[:, None].to(torch.int8)
    step = torch.where(scale == 0, step, step * scale.abs())
    return from_grid(whole, step), step


@dataclass(frozen=True)
class Size:
    """`nbytes` of the stored tensors, without headers and other files; `stored` values; `nonzeros` of them.

    A tied tensor counts once.
    """

    nbytes: int
    stored: int
    nonzeros: int
