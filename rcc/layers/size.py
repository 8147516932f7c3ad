"""What a model takes: bytes as the artifact would store it, values stored, non-zeros among them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`nbytes` of the stored tensors, without headers and other files; `stored` values; `nonzeros` of them.

    A tied tensor counts once.
    """

    nbytes: int
    stored: int
    nonzeros: int
