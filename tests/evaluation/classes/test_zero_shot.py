"""Zero-shot evaluation against a direct computation with transformers, its ranks, its caches and its errors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.data_sets import of_one_class
from transformers import CLIPModel

from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError, WorkError
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator, prompts
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.registry import load_evaluator
from rcc.measurement import Measurement
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_digits(train=10, calibration=10, selection=40, test=50)


def direct_scores(clip: CLIPWrapper, model: CLIPModel, splits: Splits) -> tuple[Tensor, Tensor]:
    """Class embeddings and cosines, one class and one image after the other, in float64."""
    classes = []
    with torch.no_grad():
        for name in splits.class_names:
            tokens = clip.tokenizer([t.format(name) for t in splits.templates], padding=True, return_tensors="pt")
            features = model.get_text_features(**tokens).pooler_output.double()
            mean = (features / features.norm(dim=1, keepdim=True)).mean(0)
            classes.append(mean / mean.norm())
        pixels = clip.image_processor(images=list(splits.test.images), return_tensors="pt")["pixel_values"]
        images = model.get_image_features(pixels).pooler_output.double()
    embeddings = torch.stack(classes)
    return embeddings, (images / images.norm(dim=1, keepdim=True)) @ embeddings.T


def test_it_agrees_with_a_direct_computation(clip: CLIPWrapper, clip_checkpoint: Path, few: Splits) -> None:
    classes, scores = direct_scores(clip, CLIPModel.from_pretrained(clip_checkpoint), few)
    evaluator = ZeroShotEvaluator(batch_size=7)
    with torch.no_grad():
        found = evaluator.compute_text_embeddings(clip, few.class_names, few.templates)
    torch.testing.assert_close(found.double(), classes, rtol=1e-5, atol=1e-5)
    measured = evaluator.evaluate(clip, few.test, few)
    labels = torch.from_numpy(few.test.labels)
    top5 = (scores.topk(5, dim=1).indices == labels[:, None]).any(1).double().mean()
    assert measured.details["predictions"] == scores.argmax(1).tolist()
    assert measured["accuracy"].value == pytest.approx(float((scores.argmax(1) == labels).double().mean()))
    assert measured["top5_accuracy"].value == pytest.approx(float(top5))


def test_what_is_measured_knows_its_unit_direction_and_error(clip: CLIPWrapper, few: Splits) -> None:
    measured = ZeroShotEvaluator().evaluate(clip, few.test, few)
    assert (measured.primary, measured.split, measured.samples) == ("accuracy", "test", 50)
    assert [metric.name for metric in measured.metrics] == ["accuracy", "top5_accuracy", "mean_class_accuracy"]
    assert all((metric.unit, metric.higher_is_better) == ("fraction", True) for metric in measured.metrics)
    for metric in measured.metrics[:2]:
        assert metric.standard_error == pytest.approx(math.sqrt(metric.value * (1 - metric.value) / 50))
    assert Measurement.from_json(measured.to_json()) == measured


def test_the_batch_size_does_not_change_the_answer(clip_tiny: CLIPWrapper, few: Splits) -> None:
    whole, parts = (ZeroShotEvaluator(batch_size=size).evaluate(clip_tiny, few.test, few) for size in (256, 3))
    assert whole == parts


def test_changed_weights_are_seen_at_the_next_evaluation(clip_tiny: CLIPWrapper, few: Splits) -> None:
    evaluator = ZeroShotEvaluator()
    before = evaluator.evaluate(clip_tiny, few.test, few).main.value
    # Swapping the embeddings of two words makes the model mistake the classes for each other.
    one, seven = clip_tiny.tokenizer.convert_tokens_to_ids(["one</w>", "seven</w>"])
    table = clip_tiny.module.text_model.embeddings.token_embedding.weight.data
    table[[one, seven]] = table[[seven, one]]
    after = evaluator.evaluate(clip_tiny, few.test, few)
    confused = np.isin(few.test.labels, (1, 7)).mean()
    assert before == 1.0
    assert after.main.value == pytest.approx(1 - confused)


def test_evaluators_that_share_a_cache_encode_everything_once(
    clip: CLIPWrapper, few: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, calls = EmbeddingCache(), []
    outputs = clip.outputs
    monkeypatch.setattr(clip, "outputs", lambda batch: calls.append(set(batch)) or outputs(batch))
    first, second = (ZeroShotEvaluator(cache=cache).evaluate(clip, few.test, few) for _ in range(2))
    assert first == second
    assert calls == [{"input_ids", "attention_mask"}, {"pixel_values"}]


def test_another_adapter_gets_inputs_of_its_own(clip: CLIPWrapper, clip_tiny: CLIPWrapper, few: Splits) -> None:
    shared = ZeroShotEvaluator()
    found = [shared.evaluate(model, few.test, few) for model in (clip, clip_tiny, clip)]
    alone = [ZeroShotEvaluator().evaluate(model, few.test, few) for model in (clip, clip_tiny, clip)]
    assert found == alone


def test_the_training_mode_is_put_back(clip: CLIPWrapper, few: Splits) -> None:
    clip.module.train()
    ZeroShotEvaluator().evaluate(clip, few.test, few)
    assert clip.module.training


def test_top_five_needs_five_classes(clip: CLIPWrapper, few: Splits) -> None:
    parts = [split.subset(np.flatnonzero(split.labels < 4)) for _, split in few if split.labels is not None]
    splits = Splits(*parts, ("a", "b", "c", "d"), ("{}",))
    measured = ZeroShotEvaluator().evaluate(clip, splits.test, splits)
    assert [metric.name for metric in measured.metrics] == ["accuracy", "mean_class_accuracy"]


def test_data_without_classes_is_refused_with_what_it_has(clip: CLIPWrapper, few: Splits) -> None:
    images = few.test.images
    captioned = [Split(role, split.images, (("a", "b"),) * len(split)) for role, split in few]
    with pytest.raises(UserError, match="has no classes: it has 50 images and 100 captions") as error:
        ZeroShotEvaluator().evaluate(clip, captioned[-1], Splits(*captioned))
    assert "eval=retrieval" in str(error.value)
    with pytest.raises(UserError, match="has no labels: it has 50 images and 10 class names"):
        ZeroShotEvaluator().evaluate(clip, Split("test", images), few)


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "cat", "cat"),
        ("Cat", " cat", "CAT "),  # to a tokenizer that knows no capitals
        tuple("cat " * 200 + name for name in ("one", "two")),  # which begin alike and are cut off
    ],
)
def test_classes_whose_texts_are_all_the_same_to_the_model_are_refused(
    clip_tiny: CLIPWrapper, few: Splits, names: tuple[str, ...]
) -> None:
    alike = replace(few, class_names=(*names, *[names[0]] * (10 - len(names))))
    with pytest.raises(UserError, match=r"prompts of all 10 classes are the same text to the model 'clip'"):
        ZeroShotEvaluator().check(clip_tiny, few.selection, alike)


def test_one_class_of_another_text_is_enough(clip_tiny: CLIPWrapper, few: Splits) -> None:
    ZeroShotEvaluator().check(clip_tiny, few.selection, replace(few, class_names=(*["two"] * 9, "three")))


def test_a_single_class_is_refused_before_anything_is_measured(clip_tiny: CLIPWrapper, few: Splits) -> None:
    single = of_one_class(few, "two")
    with pytest.raises(UserError, match=r"the data has one class, 'two'\. Whatever a model answers is right"):
        ZeroShotEvaluator().check(clip_tiny, single.selection, single)
    with pytest.raises(UserError, match=r"there is one class, 'two'"):
        ZeroShotEvaluator(clip_tiny, {"class_names": ["two", "three"], "templates": ["{}"]}).evaluate([], ["two"])


def test_a_model_without_text_embeddings_is_refused_by_name(few: Splits) -> None:
    module = nn.Linear(2, 2)
    model = ModuleAdapter(module, prepare=lambda images, texts: {"input": torch.zeros(len(images or texts or ()), 2)})
    with pytest.raises(
        UserError, match=r"needs 'text_embeds', which the model 'bare' does not give; its outputs are output\."
    ):
        ZeroShotEvaluator().evaluate(model, few.test, few)


def test_embeddings_that_are_not_finite_are_reported(clip: CLIPWrapper, few: Splits) -> None:
    clip.module.visual_projection.weight.data[0, 0] = float("inf")
    with pytest.raises(WorkError, match="image_embeds hold NaN or infinite values"):
        ZeroShotEvaluator().evaluate(clip, few.test, few)


def test_prompts_go_class_by_class() -> None:
    assert prompts(["cat", "dog"], ["a {}", "the {}."]) == ["a cat", "the cat.", "a dog", "the dog."]


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [([], ["a {}"], "no class names"), (["cat"], [], "no templates"), (["cat"], ["a cat"], "must hold '{}' once")],
)
def test_prompts_that_cannot_be_made_are_refused(names: list[str], templates: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prompts(names, templates)


def test_evaluators_are_loaded_by_name_and_check_their_options() -> None:
    evaluator = load_evaluator("zero_shot", batch_size=3)
    assert isinstance(evaluator, ZeroShotEvaluator)
    assert evaluator.cache.sizes.asked == 3
    with pytest.raises(UserError, match=r"unknown eval 'zeroshot'\. Did you mean 'zero_shot'"):
        load_evaluator("zeroshot")
    with pytest.raises(UserError, match=r"unknown option 'batchsize'\. Did you mean 'batch_size'"):
        load_evaluator("zero_shot", batchsize=3)
    with pytest.raises(UserError) as error:
        load_evaluator("zero_shot", batch_size=0, cache_megabytes=-1)
    assert len(error.value.problems) == 2


def test_by_hand_a_loader_gives_the_accuracies_of_the_split(clip: CLIPWrapper, few: Splits) -> None:
    config = {"class_names": few.class_names, "templates": few.templates}
    evaluator = ZeroShotEvaluator(clip, config)
    assert evaluator.text_embeddings is not None
    assert evaluator.text_embeddings.shape[0] == len(evaluator.class_names) == 10
    labels = torch.from_numpy(few.test.labels)
    loader = [
        (list(few.test.images[start : start + 7]), labels[start : start + 7]) for start in range(0, len(labels), 7)
    ]
    measured = {metric.name: metric.value for metric in ZeroShotEvaluator().evaluate(clip, few.test, few).metrics}
    wanted = {name: measured[name] for name in ("accuracy", "top5_accuracy")}
    assert evaluator.evaluate(loader) == pytest.approx(wanted)
    assert evaluator.evaluate(loader, few.class_names) == pytest.approx(wanted)
    assert ZeroShotEvaluator(clip, "cifar10").class_names[0] == "airplane"


def test_by_hand_each_parts_mode_and_each_gradient_are_as_before_afterwards(clip: CLIPWrapper, few: Splits) -> None:
    clip.module.train()
    frozen = clip.module.vision_model.eval()
    projection = clip.module.visual_projection.weight
    projection.grad = torch.ones_like(projection)
    gradient = projection.grad
    config = {"class_names": few.class_names, "templates": few.templates}
    ZeroShotEvaluator(clip, config).evaluate([(list(few.test.images[:3]), torch.from_numpy(few.test.labels[:3]))])
    assert clip.module.training
    assert not any(part.training for part in frozen.modules())
    assert projection.grad is gradient


def test_by_hand_what_cannot_be_used_is_refused(clip: CLIPWrapper) -> None:
    with pytest.raises(UserError, match="cifar10"):
        ZeroShotEvaluator(clip, "cifar")
    with pytest.raises(UserError, match="Linear embeds no texts"):
        ZeroShotEvaluator(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="needs the model"):
        ZeroShotEvaluator().evaluate([])
    with pytest.raises(UserError, match=r"pairs \(images, labels\)"):
        ZeroShotEvaluator(clip, "cifar10").evaluate([torch.zeros(1)])


def test_a_data_set_without_a_model_is_refused_since_a_run_takes_its_classes_from_its_data() -> None:
    with pytest.raises(UserError, match="say data=imagenet"):
        ZeroShotEvaluator(dataset="cifar10")
