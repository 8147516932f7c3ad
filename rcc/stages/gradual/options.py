"""Define the options of gradual pruning and check them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rcc.errors import Problems
from rcc.learning.gradual import GRADIENT, SCORES
from rcc.stages.dare.plan import MOST
from rcc.stages.learning import LearningOptions


@dataclass(frozen=True)
class GradualOptions(LearningOptions):
    """Those of `LearningOptions`, and:

    Attributes:
        target_sparsity: share of the stored values of the layers it prunes that are zero afterwards, in [0, 0.99].
        score: what is pruned first: 'gradient', the values of least |value × gradient| over all layers, or
            'magnitude', the smallest of each matrix.
        every: steps between two choices of the zeros.
        until: share of all steps after which the zeros are those that stay, in (0, 1].
    """

    method: ClassVar[str] = "gradual"

    target_sparsity: float = 0.9
    score: str = GRADIENT
    every: int = 4
    until: float = 0.6

    def check(self, problems: Problems) -> None:
        super().check(problems)
        problems.within("target_sparsity", self.target_sparsity, f"[0, {MOST}]")
        problems.choice("score", self.score, SCORES)
        problems.whole("every", self.every, 1)
        problems.within("until", self.until, "(0, 1]")
        problems.check(
            self.patience is None,
            f"patience={self.patience}: scores fall while values are pruned, and that would end it before it is done."
            " Leave patience out.",
        )
