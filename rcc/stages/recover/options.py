"""Define the options of recovery and check them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from rcc.errors import Problems
from rcc.stages.learning import LearningOptions

LAST, ROUND = "last", "round"


@dataclass(frozen=True)
class RecoveryOptions(LearningOptions):
    """Those of `LearningOptions`, and:

    Attributes:
        when: 'last': after the last round alone; 'round': in every round, before the next one prunes.
    """

    method: ClassVar[str] = "recover"

    _: KW_ONLY
    when: str = LAST

    def check(self, problems: Problems) -> None:
        super().check(problems)
        problems.choice("when", self.when, (LAST, ROUND))
