"""MetricComputer: all metrics of one set of predictions, what cannot run, and refusals that name the image."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from rcc.errors import UserError
from rcc.evaluation.captioning.java import SPICE_PARSER, unavailable
from rcc.evaluation.captioning.metrics import MetricComputer
from rcc.evaluation.captioning.tokens import package_directory

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")

PREDICTIONS = ["A dog runs through the snow.", "Two children play on a beach.", "A man's bicycle isn't here!"]
REFERENCES = [
    ["A brown dog is running in the snow.", "The dog runs through deep snow ."],
    ["Two kids are playing at the beach.", "Children play."],
    ["The man hasn't a bicycle.", "A bicycle, a man and a wall"],
]


@pytest.fixture
def computer() -> MetricComputer:
    return MetricComputer("python")


def test_all_scores_are_those_of_the_published_scorers_on_the_same_words(computer: MetricComputer) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references = {i: computer.tokenizer.tokenize(texts) for i, texts in enumerate(REFERENCES)}
    predictions = {i: computer.tokenizer.tokenize([text]) for i, text in enumerate(PREDICTIONS)}
    orders, _ = Bleu(4).compute_score(references, predictions, verbose=0)
    found = computer.compute(PREDICTIONS, REFERENCES, ["cider_d", "bleu", "rouge_l"])
    assert [score.name for score in found.scores] == ["cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]
    assert [found[f"bleu_{n}"].value for n in (1, 2, 3, 4)] == orders
    for scorer, name in ((Cider(), "cider_d"), (Rouge(), "rouge_l")):
        value, by_image = scorer.compute_score(references, predictions)
        assert (found[name].value, found[name].per_image) == (value, tuple(by_image))
    assert computer.compute_bleu_score(PREDICTIONS, REFERENCES) == orders[3]
    assert computer.compute_bleu_score(PREDICTIONS, REFERENCES, max_n=2) == orders[1]
    assert computer.compute_cider_score(PREDICTIONS, REFERENCES) == found["cider_d"].value
    assert computer.compute_rouge_score(PREDICTIONS, REFERENCES) == found["rouge_l"].value
    assert [len(row) for row in found.bleu_counts] == [10] * 3


def test_case_and_punctuation_do_not_matter_and_words_of_any_script_do(computer: MetricComputer) -> None:
    plain = computer.compute(["a dog runs", "two cats"], [["a dog runs"], ["two cats"]], ["bleu", "rouge_l"])
    dressed = computer.compute(["A DOG, runs!", "Two cats."], [["a dog runs ."], ["two - cats"]], ["bleu", "rouge_l"])
    assert plain.scores == dressed.scores
    script = computer.compute(["ein süßer Hund", "собака бежит"], [["Ein süßer Hund."], ["Собака"]], ["cider_d"])
    assert script["cider_d"].per_image == pytest.approx((7.5, 10 * (1 / 2**0.5) / 4 * 2.718281828459045 ** (-1 / 72)))


def test_one_image_has_scores_without_errors_and_no_cider_d(computer: MetricComputer) -> None:
    found = computer.compute(["a dog"], [["a dog runs"]], ["bleu", "rouge_l"])
    assert {score.standard_error for score in found.scores} == {None}
    with pytest.raises(UserError, match="CIDEr-D was asked for on one image"):
        computer.compute(["a dog"], [["a dog runs"]])


def test_lists_of_different_lengths_are_refused(computer: MetricComputer) -> None:
    with pytest.raises(UserError, match="1 predictions and the references of 2 images"):
        computer.compute_bleu_score(["a dog"], [["a dog"], ["a cat"]])
    with pytest.raises(UserError, match="there is no image to score"):
        computer.compute_bleu_score([], [])


def test_images_without_a_reference_are_named(computer: MetricComputer) -> None:
    references = [["a dog"], [], [" . "], ["a cat"]]
    with pytest.raises(UserError, match=r"2 of 4 images have no reference.*the first being 1.jpg, 2.jpg"):
        computer.compute(["a", "b", "c", "d"], references, ["bleu"], name="{}.jpg".format)
    with pytest.raises(UserError, match="the first being image 1, image 2"):
        computer.compute_rouge_score(["a", "b", "c", "d"], references)


def test_a_reference_without_a_word_beside_another_is_left_out(computer: MetricComputer) -> None:
    with_blank = computer.compute_rouge_score(["", "a cat"], [["a dog", "..."], ["a cat", ""]])
    assert with_blank == computer.compute_rouge_score(["", "a cat"], [["a dog"], ["a cat"]]) == 0.5


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        (["cidr_d"], r"unknown metric 'cidr_d'. Did you mean 'cider_d'\?"),
        ([], "metrics is empty"),
        (["bleu", "bleu"], "names one twice"),
    ],
)
def test_unknown_metrics_are_refused(computer: MetricComputer, metrics: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        computer.compute(PREDICTIONS, REFERENCES, metrics)


def test_without_java_its_metrics_are_left_out_with_the_reason(
    computer: MetricComputer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = computer.compute(PREDICTIONS, REFERENCES)
    assert found.unavailable == dict.fromkeys(("meteor", "spice"), "no 'java' is on the PATH")
    assert len(found.scores) == 6
    with pytest.raises(UserError, match="meteor cannot be computed here: no 'java' is on the PATH"):
        computer.compute_meteor_score(PREDICTIONS, REFERENCES)


@needs_java
def test_meteor_is_that_of_the_published_program(computer: MetricComputer) -> None:
    # nlg-eval's tests have 0.44434387 for this one.
    found = computer.compute_meteor_score(["this is a good test"], [["this is a test", "this is also a test"]])
    assert found == pytest.approx(0.44434387, abs=1e-6)


@needs_java
def test_spice_without_its_parser_says_how_to_get_it(computer: MetricComputer) -> None:
    if all((package_directory() / "spice" / "lib" / jar).exists() for jar in SPICE_PARSER):
        pytest.skip("the parser of SPICE is installed")
    assert unavailable("meteor") is None
    with pytest.raises(UserError, match=r"spice cannot be computed here: its parser.*get_stanford_models"):
        computer.compute_spice_score(PREDICTIONS, REFERENCES)


def test_the_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.tokenizer", None)
    with pytest.raises(UserError, match=r"need the package pycocoevalcap.*pip install 'rcc\[captions\]'"):
        MetricComputer("python")
