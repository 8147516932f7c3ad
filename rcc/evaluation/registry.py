"""Define what an evaluator is, and load those that ship by name, imported only when asked for."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from rcc.data.splits import Split, Splits
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.plugins import build_named


@runtime_checkable
class Measuring(Protocol):
    """Anything that an eval file may name: it measures a model on one split of a data set."""

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement: ...


class Evaluator(Measuring, Protocol):
    """Measures a model on one split of a data set. Metric names are its own among all evaluators.

    Of a measurement's details, `note` is a sentence for people, and `per_image` has for some metrics a value for each
    image whose mean is the metric, from which differences between models get their standard errors.
    """

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: what can be told to fail before any image is looked at, as data or a model of another kind.
        """
        ...


@runtime_checkable
class EmbeddingEvaluator(Protocol):
    """Reads embeddings from a cache that others may share."""

    cache: EmbeddingCache


@runtime_checkable
class SizesBatches(Protocol):
    """Takes as many items at a time as fit into memory."""

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model how many that are; all others are then measured on batches of that size."""
        ...


@runtime_checkable
class CostEvaluator(Protocol):
    """Says what a model costs and not how good it is: the gate does without it, a run ends with it."""

    at_the_end: ClassVar[bool]

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits, beside: Adapter | None = None) -> Measurement:
        """The costs of `adapter`, measured in turns with `beside` where there is one."""
        ...

    def measure_before_optimising(self, adapter: Adapter, split: Split) -> None:
        """Look at a model as it is stored, before kernels take the place of its modules; for its next `evaluate`."""
        ...


def load_evaluator(name: str, **options: Any) -> Evaluator | CostEvaluator:
    """The evaluator `name` with its options.

    Raises:
        UserError: an unknown name or option, or an option it refuses.
    """
    built: Evaluator | CostEvaluator = build_named("eval", name, Measuring, options)
    return built
