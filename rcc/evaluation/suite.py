"""Several evaluators on one model as one measurement: `eval=zero_shot+retrieval+efficiency`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.registry import (
    CostEvaluator,
    EmbeddingEvaluator,
    Evaluator,
    Measuring,
    SizesBatches,
    load_evaluator,
)
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.plugins import TARGET, build

SEPARATOR = "+"


class Suite:
    """Evaluators by label, in the order asked; the first one's primary metric is the one the gate reads.

    Args:
        evaluators: at least one. Those of costs are left out of measurements that are not final.

    Raises:
        UserError: there is none.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator | CostEvaluator]) -> None:
        if not evaluators:
            raise UserError("eval= names no evaluator. Join one or more names with '+', as in eval=zero_shot.")
        self.evaluators = dict(evaluators)

    @property
    def first(self) -> str:
        """The label of the evaluator whose primary metric is the primary one."""
        return next(iter(self.evaluators))

    @property
    def measures_costs(self) -> bool:
        """Whether there is an evaluator that compares with a model beside."""
        return any(isinstance(evaluator, CostEvaluator) for evaluator in self.evaluators.values())

    @property
    def leads_with_costs(self) -> bool:
        """Whether the first evaluator is one that the gate does without."""
        return isinstance(self.evaluators[self.first], CostEvaluator)

    def costs_alone(self) -> str:
        """The reason for which the first evaluator cannot lead a run that compresses or trains."""
        return (
            f"eval={SEPARATOR.join(self.evaluators)}: '{self.first}' says what a model costs, and the gate needs "
            "to know how good it is. Name an evaluator of quality first, as in eval=zero_shot+efficiency."
        )

    @property
    def is_pure(self) -> bool:
        """Whether it gives the same for the same model and data: costs vary, and an evaluator from outside may."""
        shipped = all(type(each).__module__.startswith("rcc.") for each in self.evaluators.values())
        return shipped and not self.measures_costs

    def measure_before_optimising(self, adapter: Adapter, split: Split) -> None:
        """Let evaluators of costs see a model as it is stored, before kernels take the place of its modules."""
        for evaluator in self.evaluators.values():
            if isinstance(evaluator, CostEvaluator):
                evaluator.measure_before_optimising(adapter, split)

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Let evaluators find how large a batch may be, by the model that all others are compared with.

        Raises:
            UserError: a model or a split that an evaluator cannot work with.
        """
        self._check(adapter, split, splits)
        for evaluator in self.evaluators.values():
            if isinstance(evaluator, SizesBatches):
                evaluator.fit_batches(adapter, split, splits)

    def evaluate(
        self, adapter: Adapter, split: Split, splits: Splits, final: bool = True, beside: Adapter | None = None
    ) -> Measurement:
        """All evaluators in turn, as one measurement of as many samples as the first one's.

        `details` has those of each evaluator under its label. All are asked whether they can work before one does.

        Args:
            final: ask those of costs too.
            beside: the model that these compare with, both in memory at once.

        Raises:
            UserError: a model or a split that an evaluator cannot work with, two metrics of one name, or nothing but
                evaluators of costs where the measurement is not final.
        """
        self._check(adapter, split, splits)
        found: dict[str, Measurement] = {}
        for label, evaluator in self.evaluators.items():
            with _named(label):
                if not isinstance(evaluator, CostEvaluator):
                    found[label] = evaluator.evaluate(adapter, split, splits)
                elif final:
                    found[label] = evaluator.evaluate(adapter, split, splits, beside)
        if not found:
            raise UserError(self.costs_alone())
        _check_names(found)
        first = next(iter(found.values()))
        return Measurement(
            metrics=tuple(metric for measured in found.values() for metric in measured.metrics),
            primary=first.primary,
            split=first.split,
            samples=first.samples,
            details={label: measured.details for label, measured in found.items() if measured.details},
        )

    def _check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Ask every evaluator whether it can work, so that none starts in vain."""
        problems = Problems()
        for label, evaluator in self.evaluators.items():
            if not isinstance(evaluator, CostEvaluator):
                try:
                    with _named(label):
                        evaluator.check(adapter, split, splits)
                except UserError as error:
                    problems.found.extend(error.problems)
        problems.done()


def load_suite(nodes: Mapping[str, Mapping[str, Any]]) -> Suite:
    """The suite of `nodes`: by label, an evaluator's options, and its `_target_` where it is not the shipped one that
    the label names.

    Raises:
        UserError: every problem of every evaluator: an unknown name or option, or an option it refuses.
    """
    problems = Problems()
    evaluators: dict[str, Evaluator | CostEvaluator] = {}
    for label, options in nodes.items():
        try:
            with _named(label):
                if TARGET in options:
                    evaluators[label] = build(f"eval.{label}", Measuring, options)
                else:
                    evaluators[label] = load_evaluator(label, **options)
        except UserError as error:
            problems.found.extend(error.problems)
    problems.done()
    _share_embeddings(evaluators.values())
    return Suite(evaluators)


def _share_embeddings(evaluators: Iterable[Evaluator | CostEvaluator]) -> None:
    """Let evaluators that keep embeddings in the same way keep them together, so that no image is encoded twice."""
    caches: dict[tuple[object, ...], EmbeddingCache] = {}
    for evaluator in evaluators:
        if isinstance(evaluator, EmbeddingEvaluator):
            evaluator.cache = caches.setdefault(evaluator.cache.settings, evaluator.cache)


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Say which evaluator could not do its work."""
    try:
        yield
    except UserError as error:
        named = ("eval", "unknown eval")
        told = (problem if problem.startswith(named) else f"eval '{label}': {problem}" for problem in error.problems)
        raise UserError(*told) from error


def _check_names(found: Mapping[str, Measurement]) -> None:
    """Refuse two metrics of one name, by which they could not be told apart."""
    counted = Counter(metric.name for measured in found.values() for metric in measured.metrics)
    problems = Problems("eval")
    for name, count in counted.items():
        told = [label for label, measured in found.items() if name in (metric.name for metric in measured.metrics)]
        problems.check(count == 1, f"the metric '{name}' is measured by {' and '.join(told)}; name one of them.")
    problems.done()
