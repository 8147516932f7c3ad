"""Evaluators by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any, Protocol

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError, unknown
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

EVALUATORS = {"zero_shot": "rcc.evaluation.zero_shot:ZeroShotEvaluator"}


class Evaluator(Protocol):
    """Measures a model on one split of a data set."""

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement: ...


def load_evaluator(name: str, **options: Any) -> Evaluator:
    """The evaluator `name` with its options.

    Raises:
        UserError: an unknown name or option, or an option it refuses.
    """
    if name not in EVALUATORS:
        raise UserError(unknown("eval", name, EVALUATORS))
    module, _, attribute = EVALUATORS[name].partition(":")
    evaluator = getattr(import_module(module), attribute)
    problems = Problems(f"eval '{name}'")
    for option in options:
        problems.choice("option", option, signature(evaluator).parameters)
    problems.done()
    built: Evaluator = evaluator(**options)
    return built
