"""Evaluators by name, imported only when asked for."""

from __future__ import annotations

from typing import Any, Protocol

from rcc.by_name import call, find
from rcc.data.splits import Split, Splits
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

EVALUATORS = {"zero_shot": "rcc.evaluation.zero_shot:ZeroShotEvaluator"}


class Evaluator(Protocol):
    """Measures a model on one split of a data set. Metric names are its own among all evaluators.

    One that sets `at_the_end = True` says what a model costs, not how good it is: the gate does without it, and it is
    handed the model to be compared with as `beside` where there is one.
    """

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement: ...


def load_evaluator(name: str, **options: Any) -> Evaluator:
    """The evaluator `name` with its options.

    Raises:
        UserError: an unknown name or option, or an option it refuses.
    """
    built: Evaluator = call("eval", name, find("eval", name, EVALUATORS), options)
    return built
