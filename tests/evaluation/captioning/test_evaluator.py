"""The captioning evaluator on a small BLIP that really writes: agreement with direct calls, details and refusals."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.errors import UserError, WorkError
from rcc.evaluation.captioning.evaluator import CaptioningEvaluator
from rcc.evaluation.captioning.metrics import MetricComputer
from rcc.evaluation.registry import load_evaluator
from rcc.measurement import Measurement
from rcc.models.transformers.clip import CLIPWrapper

PLAIN = {"tokenizer": "python", "metrics": ["cider_d", "bleu", "rouge_l"]}
NAMES = ["cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]


def split_of(name: str, count: int, captions: bool = True) -> Split:
    seed = sum(map(ord, name))
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    words = ["cat", "dog", "car", "sky", "red", "blue"]
    written = tuple(
        (f"a photo of the {words[i % 6]} .", f"The {words[i % 5]} is {words[i % 4]}!") for i in range(count)
    )
    return Split(name, ArrayImages(pixels), written if captions else ())


@pytest.fixture(scope="module")
def pictured() -> Splits:
    return Splits(split_of("train", 0), split_of("calibration", 2), split_of("selection", 2), split_of("test", 7))


@pytest.fixture
def blip(random_model: Callable[[str], Any]) -> Any:
    return random_model("blip")


def test_it_scores_what_the_model_writes(blip: Any, pictured: Splits) -> None:
    measured = CaptioningEvaluator(batch_size=3, **PLAIN).evaluate(blip, pictured.test, pictured)
    written = blip.generate_caption(list(pictured.test.images))
    assert measured.details["predictions"] == written
    assert len(set(written)) > 1
    direct = MetricComputer("python").compute(written, pictured.test.captions, PLAIN["metrics"])
    assert [(metric.name, metric.value, metric.standard_error) for metric in measured.metrics] == [
        (score.name, score.value, score.standard_error) for score in direct.scores
    ]


def test_what_is_measured_knows_its_words_units_and_errors(blip: Any, pictured: Splits) -> None:
    measured = CaptioningEvaluator(**PLAIN).evaluate(blip, pictured.test, pictured)
    assert (measured.primary, measured.split, measured.samples) == ("cider_d", "test", 7)
    assert [metric.name for metric in measured.metrics] == NAMES
    assert [metric.unit for metric in measured.metrics] == ["", *["fraction"] * 5]
    assert all(metric.higher_is_better and metric.standard_error is not None for metric in measured.metrics)
    details = measured.details
    assert (details["tokenizer"], details["settings"], details["unavailable"]) == ("ptb (python)", {}, {})
    assert {name: len(values) for name, values in details["per_image"].items()} == {"cider_d": 7, "rouge_l": 7}
    assert np.mean(details["per_image"]["cider_d"]) == pytest.approx(measured.main.value)
    assert np.shape(details["bleu_counts"]) == (7, 10)
    assert Measurement.from_json(measured.to_json()) == measured


def test_the_batch_size_does_not_change_the_answer_nor_does_a_second_time(blip: Any, pictured: Splits) -> None:
    evaluator = CaptioningEvaluator(batch_size=32, **PLAIN)
    first = evaluator.evaluate(blip, pictured.test, pictured)
    assert evaluator.evaluate(blip, pictured.test, pictured) == first
    assert CaptioningEvaluator(batch_size=2, **PLAIN).evaluate(blip, pictured.test, pictured) == first


def test_the_generation_is_as_asked(blip: Any, pictured: Splits) -> None:
    evaluator = CaptioningEvaluator(num_beams=1, max_length=8, min_length=2, **PLAIN)
    measured = evaluator.evaluate(blip, pictured.test, pictured)
    direct = blip.generate_caption(list(pictured.test.images), num_beams=1, max_length=8, min_length=2)
    assert measured.details["predictions"] == direct != blip.generate_caption(list(pictured.test.images))
    assert measured.details["settings"] == {"num_beams": 1, "max_length": 8, "min_length": 2}
    specified = CaptioningEvaluator(settings="specification", **PLAIN).evaluate(blip, pictured.test, pictured)
    assert specified.details["settings"] == {"settings": "specification"}


def test_a_model_in_training_mode_is_evaluated_in_evaluation_mode_and_left_in_training(
    blip: Any, pictured: Splits
) -> None:
    evaluator = CaptioningEvaluator(**PLAIN)
    expected = evaluator.evaluate(blip, pictured.test, pictured)
    blip.module.train()
    assert evaluator.evaluate(blip, pictured.test, pictured) == expected
    assert blip.module.training


def test_a_judge_adds_clip_scores_and_is_named(blip: Any, pictured: Splits, clip_checkpoint: Path) -> None:
    evaluator = CaptioningEvaluator(clip_score_model=str(clip_checkpoint), **PLAIN)
    measured = evaluator.evaluate(blip, pictured.test, pictured)
    assert [metric.name for metric in measured.metrics] == [*NAMES, "clip_score", "ref_clip_score"]
    assert measured.details["clip_score_model"] == str(clip_checkpoint)
    assert f"CLIPScore is judged by {clip_checkpoint}." in measured.details["note"]
    assert len(measured.details["per_image"]["clip_score"]) == 7
    assert (measured["clip_score"].unit, measured.primary) == ("", "cider_d")


def test_the_first_metric_is_the_primary_one(blip: Any, pictured: Splits) -> None:
    for metrics, primary in ((["rouge_l", "cider_d"], "rouge_l"), (["bleu"], "bleu_4")):
        evaluator = CaptioningEvaluator(tokenizer="python", metrics=metrics)
        assert evaluator.evaluate(blip, pictured.test, pictured).primary == primary


def test_without_java_its_metrics_are_reported_as_left_out(
    blip: Any, pictured: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    measured = CaptioningEvaluator().evaluate(blip, pictured.test, pictured)
    assert [metric.name for metric in measured.metrics] == NAMES
    assert measured.details["tokenizer"] == "ptb (python)"
    assert sorted(measured.details["unavailable"]) == ["meteor", "spice"]
    without = "left out: no 'java' is on the PATH."
    assert measured.details["note"] == f"Captions: words by ptb (python). meteor is {without} spice is {without}"
    with pytest.raises(UserError, match="the primary metric meteor cannot be computed here: no 'java' is on the PATH"):
        CaptioningEvaluator(metrics=["meteor", "bleu"])


def test_a_primary_metric_whose_program_fails_stops_the_evaluation(
    blip: Any, pictured: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("java") == str(program)
    evaluator = CaptioningEvaluator(tokenizer="python", metrics=["meteor", "bleu"])
    with pytest.raises(WorkError, match="METEOR's Java program failed"):
        evaluator.evaluate(blip, pictured.test, pictured)


def test_a_model_that_writes_nothing_and_a_set_without_captions_are_refused(
    blip: Any, clip: CLIPWrapper, pictured: Splits
) -> None:
    evaluator = CaptioningEvaluator(**PLAIN)
    with pytest.raises(UserError, match=r"needs a model that writes captions.*'clip' does not.*eval=retrieval"):
        evaluator.evaluate(clip, pictured.test, pictured)
    bare = split_of("test", 3, captions=False)
    with pytest.raises(UserError, match=r"the split 'test' has no captions to compare with.*data=flickr8k"):
        evaluator.evaluate(blip, bare, pictured)


def test_an_image_whose_captions_have_no_word_is_named(blip: Any, pictured: Splits) -> None:
    wordless = Split("test", pictured.test.images.subset(np.arange(2)), (("a dog",), (" . ",)))
    with pytest.raises(UserError, match=r"1 of 2 images have no reference with a word in it.*image 1"):
        CaptioningEvaluator(**PLAIN).evaluate(blip, wordless, pictured)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"min_length": 9, "max_length": 5}, "min_length is 9 and max_length 5"),
        ({"metrics": ["cidr"]}, r"unknown metric 'cidr'. Did you mean 'cider_d'\?"),
        ({"tokenizer": "jav"}, r"unknown tokenizer 'jav'. Did you mean 'java'\?"),
        ({"beams": 3}, r"unknown option 'beams'. Did you mean 'num_beams'\?"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_evaluator("captioning", **options)


def test_the_shipped_config_has_every_option_at_its_default() -> None:
    path = Path(__file__).parents[3] / "conf/eval/captioning.yaml"
    shipped = yaml.safe_load(path.read_text())
    defaults = {name: each.default for name, each in inspect.signature(CaptioningEvaluator).parameters.items()}
    assert path.read_text().startswith("# @package eval.captioning\n")
    assert shipped.pop("_target_").endswith(".CaptioningEvaluator")
    assert shipped == {**defaults, "metrics": list(defaults["metrics"])}
