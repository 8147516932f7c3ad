"""Classification by logits: how classes find each other, what is measured, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.data_sets import of_one_class

from rcc.data.sets.digits import load_digits
from rcc.data.splits import Splits
from rcc.errors import UserError, WorkError
from rcc.evaluation.classes.classification import ClassificationEvaluator, class_places
from rcc.evaluation.registry import load_evaluator
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class DigitClassifier(ModuleAdapter):
    """One linear layer on the pixels, fitted by least squares."""

    def __init__(self, data: Splits, class_names: tuple[str, ...], order: list[int]) -> None:
        module = nn.Linear(32 * 32, len(order))
        super().__init__(module, prepare=pixels, outputs=lambda batch: {"logits": module(batch["input"])})
        self.class_names = class_names
        inputs = pixels(list(data.train.images), None)["input"]
        wanted = nn.functional.one_hot(torch.from_numpy(data.train.labels), len(order)).float()[:, order]
        solution = torch.linalg.lstsq(
            torch.cat([inputs, torch.ones(len(inputs), 1)], 1), wanted, driver="gelsd"
        ).solution
        with torch.no_grad():
            module.weight.copy_(solution[:-1].T)
            module.bias.copy_(solution[-1])


def pixels(images: object, texts: object) -> dict[str, Tensor]:
    return {"input": torch.stack([torch.tensor(np.asarray(i)[..., 0]).flatten() / 255 for i in images])}


@pytest.fixture(scope="module")
def data() -> Splits:
    return load_digits(train=400, calibration=10, selection=10, test=200)


def test_a_single_class_is_refused(clip: CLIPWrapper) -> None:
    data = of_one_class(load_digits(train=10, calibration=10, selection=40, test=50), "zero")
    with pytest.raises(UserError, match=r"eval 'classification': the data has one class, 'zero'"):
        ClassificationEvaluator().check(clip, data.test, data)


def test_it_agrees_with_a_direct_computation(data: Splits) -> None:
    model = DigitClassifier(data, DIGITS, list(range(10)))
    measured = ClassificationEvaluator(batch_size=33).evaluate(model, data.test, data)
    logits = model.module(pixels(list(data.test.images), None)["input"])
    labels = torch.from_numpy(data.test.labels)
    assert measured.details["predictions"] == logits.argmax(1).tolist()
    assert measured["classifier_accuracy"].value == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    top5 = (logits.topk(5).indices == labels[:, None]).any(1).double().mean()
    assert measured["classifier_top5_accuracy"].value == pytest.approx(float(top5))
    assert measured.main.value > 0.8
    assert measured.details["note"].startswith("Classes were matched by name")


def test_classes_in_another_order_with_others_between_are_found_by_name(data: Splits) -> None:
    plain = ClassificationEvaluator().evaluate(DigitClassifier(data, DIGITS, list(range(10))), data.test, data)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    names = tuple(DIGITS[index].upper() for index in order)
    model = DigitClassifier(data, names, order)
    assert ClassificationEvaluator().evaluate(model, data.test, data).metrics == plain.metrics
    wider = nn.Linear(32 * 32, 11)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([model.module.layer.weight, torch.zeros(1, 1024)]))
        wider.bias.copy_(torch.cat([model.module.layer.bias, torch.full((1,), 9.0)]))
    model.module, model.class_names = wider, (*names, "a letter")
    model._outputs = lambda batch: {"logits": wider(batch["input"])}
    assert ClassificationEvaluator().evaluate(model, data.test, data).metrics == plain.metrics


def test_a_model_without_names_is_matched_by_index_and_says_so(data: Splits) -> None:
    model = DigitClassifier(data, (), list(range(10)))
    measured = ClassificationEvaluator().evaluate(model, data.test, data)
    assert measured.details["note"] == "Classes were matched by index; the model does not name its classes."
    assert measured.main.value > 0.8


def test_names_between_commas_count_and_repeated_ones_go_to_the_same_index() -> None:
    of_model = ("tench, Tinca tinca", "crane", "crane", "kite")
    assert class_places(of_model, ("Tench", "crane", "crane", "KITE"), 4)[0] == [0, 1, 2, 3]
    assert class_places(of_model, ("kite", "tinca tinca"), 4)[0] == [3, 0]


def test_half_of_the_names_in_place_is_the_same_order() -> None:
    places, how = class_places(("cat, tabby", "dog", "kite"), ("cat", "dog", "kite (bird of prey)"), 3)
    assert (places, how) == ([0, 1, 2], "by index; 2 of 3 names agree.")


def test_other_classes_are_refused_with_both_lists() -> None:
    with pytest.raises(UserError, match=r"2 of the data's 3 classes .*: 'ship', 'frog'\.") as error:
        class_places(("cat", "dog", "kite"), ("cat", "ship", "frog"), 3)
    assert "the model's are 'cat', 'dog', 'kite'" in str(error.value)
    assert class_places(("cat", "dog", "kite"), ("cat", "ship", "frog"), 3, "index")[0] == [0, 1, 2]
    with pytest.raises(UserError, match="'ship', 'frog'"):
        class_places(("cat", "dog", "kite"), ("dog", "ship", "frog"), 3, "name")
    with pytest.raises(UserError, match="the data has 2 classes and the model 3 logits"):
        class_places((), ("cat", "dog"), 3)


def test_a_model_without_logits_is_refused_by_name(clip: CLIPWrapper, data: Splits) -> None:
    with pytest.raises(
        UserError, match=r"needs 'logits', which the model 'clip' does not give; of images it gives image_embeds"
    ):
        ClassificationEvaluator().evaluate(clip, data.test, data)


def test_logits_that_are_not_finite_are_reported_and_the_mode_is_put_back(data: Splits) -> None:
    model = DigitClassifier(data, DIGITS, list(range(10)))
    model.module.layer.weight.data.fill_(torch.nan)
    model.module.train()
    with pytest.raises(WorkError, match="logits hold NaN"):
        ClassificationEvaluator().evaluate(model, data.test, data)
    assert model.module.training


def test_options_are_checked() -> None:
    with pytest.raises(UserError) as error:
        load_evaluator("classification", batch_size=0, classes="names")
    assert len(error.value.problems) == 2
    assert "Did you mean 'name'" in str(error.value)
