"""Define the options of quantisation, and check them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rcc.errors import Problems
from rcc.ops.grid import CLIPS
from rcc.stages.options import AUTO, StageOptions
from rcc.stages.quant.vectors import BITS

ROUNDINGS = ("feedback", "nearest")
LEAST_BITS, USUAL_BITS, MOST_BITS = 2, 4, 8
EMBEDDING = "embedding"
"""The role whose units have bits of their own."""


@dataclass(frozen=True)
class QuantOptions(StageOptions):
    """How fine the grid of the stored values is, and how they are rounded to it.

    Attributes:
        bits: of a value, 2 to 8, alike in all layers. 'auto' is what a target in bytes leaves: every row then gets a
            step of its own, by how far its errors move the model's outputs. Without a target it is 4. The artifact
            keeps a byte a value, and codes the entropy out of fewer bits.
        embedding_bits: the same for units of the role 'embedding': the tables of tokens and positions, and the
            convolution that embeds patches.
        rounding: 'nearest' by itself; 'feedback' chooses whole numbers one column after the other so that later
            ones make up for the errors of earlier ones in the outputs on the calibration data, against those
            of the dense model, and settles the bias. Units that are no sum over inputs are rounded to nearest.
        clip: steps by the largest magnitude of a row ('absmax') or by least squared error ('mse'), which is nearer at
            the same bits and takes more bytes once entropy is coded.
        vector_bits: 8 rounds every bias and norm of the model to the multiples of one step a vector; None leaves them.
        selection: by default embeddings too.
    """

    method: ClassVar[str] = "quant"

    bits: int | str = AUTO
    embedding_bits: int | str = AUTO
    rounding: str = "feedback"
    clip: str = "absmax"
    vector_bits: int | None = BITS

    def check(self, problems: Problems) -> None:
        for name, bits in (("bits", self.bits), ("embedding_bits", self.embedding_bits)):
            if bits != AUTO:
                problems.whole(name, bits, LEAST_BITS, MOST_BITS)
        problems.choice("rounding", self.rounding, ROUNDINGS)
        problems.choice("clip", self.clip, CLIPS)
        problems.check(
            self.vector_bits is None or (type(self.vector_bits) is int and self.vector_bits == BITS),
            f"vector_bits is {self.vector_bits}; it must be {BITS} or null.",
        )
        roles = self.selection.roles
        if roles is not None and EMBEDDING not in roles:
            self.unused(problems, ("embedding_bits",), f"with roles={list(roles)}", f"add '{EMBEDDING}' to roles")

    @property
    def feedback(self) -> bool:
        """Whether errors are made up for by later columns."""
        return self.rounding == "feedback"

    @property
    def needs_calibration(self) -> bool:
        return self.feedback
