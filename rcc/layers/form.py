"""The one form of a compressed weight: W ≈ diag(a) (S + U V), and a bias.

Shapes: `sparse` S (out, in), `left` U (out, r), `right` V (r, in), `scale` a (out,), `bias` (out,).
A convolution is flattened to (out, in · kernel). A fresh layer is S = W alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MATRICES = ("sparse", "left", "right")


@dataclass(frozen=True)
class Form:
    """W ≈ diag(scale) (sparse + left @ right), plus a bias. Tensors are shared, never copied."""

    sparse: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    scale: Tensor | None = None
    bias: Tensor | None = None

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

    @property
    def stored(self) -> int:
        """Values the matrices hold, zeros included."""
        return sum(matrix.numel() for _, matrix in self.matrices())

    @property
    def nonzeros(self) -> int:
        """Values the matrices hold that are not zero."""
        return sum(int(torch.count_nonzero(matrix)) for _, matrix in self.matrices())

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

        Zeros stay +0.0: a negative scale would make -0.0 of them, which the encodings store as a value.
        """
        if self.scale is None:
            return self
        column = self.scale[:, None]
        return replace(
            self,
            sparse=None if self.sparse is None else self.sparse * column + 0.0,
            left=None if self.left is None else self.left * column + 0.0,
            scale=None,
        )
