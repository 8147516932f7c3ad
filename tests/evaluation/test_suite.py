"""Several evaluators as one measurement: order, what is left for the end, names, and every problem at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.evaluation.suite import Suite, load_suite
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter
from rcc.models.transformers.clip import CLIPWrapper


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_digits(train=10, calibration=10, selection=20, test=30)


class Counting:
    """Counts images, under a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        pass

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        self.asked += 1
        return Measurement((Metric(self.name, len(split), "images"),), self.name, split.name, len(split))


@dataclass
class Cost:
    """Notes what it was handed to compare with."""

    at_the_end: ClassVar[bool] = True
    seen: list[Any] = field(default_factory=list)

    def measure_before_optimising(self, adapter: Adapter, split: Split) -> None:
        self.seen.append("stored")

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits, beside: Adapter | None = None) -> Measurement:
        self.seen.append(beside)
        return Measurement((Metric("cost", 1.0, "s", False),), "cost", split.name, 7, {"times": [1.0]})


def test_the_first_evaluator_leads_and_all_metrics_are_there(clip: CLIPWrapper, few: Splits) -> None:
    zero_shot = ZeroShotEvaluator()
    alone = zero_shot.evaluate(clip, few.test, few)
    both = Suite({"zero_shot": zero_shot, "cost": Cost()}).evaluate(clip, few.test, few)
    assert both.metrics == (*alone.metrics, Metric("cost", 1.0, "s", False))
    assert (both.primary, both.split, both.samples) == ("accuracy", "test", 30)
    assert both.details == {"zero_shot": alone.details, "cost": {"times": [1.0]}}
    turned = Suite({"images": Counting("images"), "zero_shot": zero_shot}).evaluate(clip, few.test, few)
    assert (turned.primary, turned.main.value) == ("images", 30)
    assert list(turned.details) == ["zero_shot"]


def test_costs_wait_for_the_end_and_are_handed_the_model_beside(clip: CLIPWrapper, few: Splits) -> None:
    cost = Cost()
    suite = Suite({"images": Counting("images"), "cost": cost})
    gate = suite.evaluate(clip, few.selection, few, final=False)
    assert ([metric.name for metric in gate.metrics], cost.seen) == (["images"], [])
    suite.evaluate(clip, few.selection, few)
    suite.evaluate(clip, few.selection, few, beside=clip)
    suite.measure_before_optimising(clip, few.selection)
    assert cost.seen == [None, clip, "stored"]
    assert suite.measures_costs
    assert not suite.leads_with_costs


def test_costs_alone_cannot_lead_a_gate(clip: CLIPWrapper, few: Splits) -> None:
    suite = Suite({"cost": Cost()})
    assert suite.leads_with_costs
    assert suite.evaluate(clip, few.test, few).primary == "cost"
    with pytest.raises(UserError, match=r"'cost' says what a model costs.*Name an evaluator of quality first"):
        suite.evaluate(clip, few.test, few, final=False)


def test_evaluators_that_cannot_work_say_so_before_another_starts(clip: CLIPWrapper, few: Splits) -> None:
    first = Counting("images")
    suite = Suite({"images": first, **load_suite({"retrieval": {}, "captioning": {}}).evaluators})
    with pytest.raises(UserError) as caught:
        suite.evaluate(clip, few.test, few)
    assert [problem.split(" needs ")[0] for problem in caught.value.problems] == [
        "eval 'retrieval'",
        "eval 'captioning'",
    ]
    assert first.asked == 0


def test_two_metrics_of_one_name_are_refused(clip: CLIPWrapper, few: Splits) -> None:
    suite = Suite({"one": Counting("images"), "two": Counting("images")})
    with pytest.raises(UserError, match="the metric 'images' is measured by one and two; name one of them"):
        suite.evaluate(clip, few.test, few)


def test_a_suite_is_built_of_options_by_label_and_tells_every_problem() -> None:
    suite = load_suite({"zero_shot": {"batch_size": 3}})
    (evaluator,) = suite.evaluators.values()
    assert isinstance(evaluator, ZeroShotEvaluator)
    assert (suite.first, evaluator.cache.sizes.asked) == ("zero_shot", 3)
    with pytest.raises(UserError) as caught:
        load_suite({"zero": {}, "zero_shot": {"batch_size": 0, "cache_megabytes": -1}, "b": {"x": 1}})
    assert [problem.split(".")[0] for problem in caught.value.problems] == [
        "unknown eval 'zero'",
        "eval 'zero_shot': embeddings: batch_size is 0; it must be a whole number from 1 up, or auto",
        "eval 'zero_shot': embeddings: cache_megabytes is -1; it must be a number from 0 up",
        "unknown eval 'b'",
    ]
    with pytest.raises(UserError, match="names no evaluator"):
        load_suite({})


def test_evaluators_with_the_same_settings_share_one_cache_and_others_do_not() -> None:
    options = {"batch_size": 64, "cache_megabytes": 8}
    alike = load_suite({"zero_shot": options, "retrieval": options}).evaluators
    assert alike["zero_shot"].cache is alike["retrieval"].cache
    apart = load_suite({"zero_shot": options, "retrieval": options | {"batch_size": 32}}).evaluators
    assert apart["zero_shot"].cache is not apart["retrieval"].cache
    assert apart["retrieval"].cache.sizes.asked == 32
