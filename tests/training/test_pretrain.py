"""Pre-training: it learns, it repeats, it leaves a checkpoint that transformers reads; and the one that ships."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from rcc.data.files.images import ArrayImages
from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator, prompts
from rcc.learning.affine import Affine
from rcc.learning.trainer import CompressionTrainer
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.clip_tiny import embedded
from rcc.training.architecture import Architecture, new_clip
from rcc.training.pretrain import pretrain, save_checkpoint

SMALL = {"hidden": 32, "mlp": 64, "heads": 2, "vision_layers": 1, "text_layers": 1, "projection": 16}


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_digits(train=128, calibration=10, selection=20, test=20)


def train(splits: Splits, **options: Any) -> CLIPWrapper:
    settings = {"epochs": 2, "batch_size": 32, "warmup": 2, "architecture": SMALL, "device": "cpu"}
    return pretrain(splits, **{**settings, **options})[0]


def test_training_gets_far_below_the_loss_of_guessing(few: Splits) -> None:
    wider = {**SMALL, "hidden": 64, "mlp": 128, "projection": 32}
    still = {"degrees": 0.0, "scale": 0.0, "shift": 0.0}
    _, history = pretrain(few, epochs=15, batch_size=32, warmup=4, architecture=wider, device="cpu", **still)
    losses = [epoch.loss for epoch in history.epochs]
    guessing = math.log(32)
    assert losses[0] > guessing
    assert losses[-1] < guessing - 0.7
    assert history.epochs[history.kept - 1].score == max(epoch.score for epoch in history.epochs) > 0.2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(few: Splits) -> None:
    torch.manual_seed(1)
    one = train(few, seed=5).module.state_dict()
    torch.manual_seed(2)
    same = train(few, seed=5).module.state_dict()
    other = train(few, seed=6).module.state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in one.items())
    assert not torch.equal(other["visual_projection.weight"], one["visual_projection.weight"])


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "grey": (130, 130, 130)}
PLACES = {"left": np.s_[:, :14], "right": np.s_[:, 14:], "top": np.s_[:12], "bottom": np.s_[12:]}


def drawings(name: str, count: int, seed: int) -> Split:
    """Images of 24 × 28 pixels, a colour on one side of noise, each with two captions that say so."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (count, 24, 28, 3), dtype=np.uint8)
    captions = []
    for image in images:
        colour, place = random.choice(list(COLOURS)), random.choice(list(PLACES))
        image[PLACES[place]] += np.array(COLOURS[colour], np.uint8) // 2 + 20
        captions.append((f"The {place} side is {colour} .", f"{colour} at the {place}"))
    return Split(name, ArrayImages(images), tuple(captions))


@pytest.fixture(scope="module")
def captioned() -> Splits:
    roles = [drawings(name, count, seed) for seed, (name, count) in enumerate({"train": 128, "calibration": 4}.items())]
    return Splits(*roles, drawings("selection", 40, 2), drawings("test", 4, 3))


class MatchingSide:
    """How often the first caption that comes closest to an image is one that says the same, and how often it was
    asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        self.asked.append(len(split))
        with torch.no_grad():
            outputs = adapter.outputs(adapter.prepare(list(split.images), split.texts))
        nearest = (outputs["image_embeds"] @ outputs["text_embeds"].T).argmax(1).tolist()
        right = np.mean([split.texts[found] == text for found, text in zip(nearest, split.texts, strict=True)])
        return Measurement((Metric("matching", float(right)),), "matching", split.name, len(split))


def test_training_on_captions_gets_far_below_the_loss_of_guessing_and_finds_the_captions(captioned: Splits) -> None:
    evaluator = MatchingSide()
    wider = {**SMALL, "hidden": 64, "mlp": 128, "projection": 32, "image": 16, "context": 12}
    _, history = pretrain(
        captioned, epochs=20, batch_size=32, warmup=4, learning_rate=2e-3, architecture=wider, vocabulary=600,
        augmentation="crop", area=0.9, flip=0.0, measure=evaluator.evaluate, device="cpu",
    )  # fmt: skip
    # Guessing one of about sixteen kinds of pair: the least loss is not zero, as equal pairs share the target.
    assert history.epochs[-1].loss < math.log(32) - 0.7
    assert history.epochs[history.kept - 1].score == max(epoch.score for epoch in history.epochs) > 0.4
    assert evaluator.asked == [8] + 20 * [40]


def test_captions_and_crops_repeat_with_the_seed(captioned: Splits) -> None:
    settings = {"augmentation": "crop", "vocabulary": 560, "measure": MatchingSide().evaluate}
    one, same, other = (train(captioned, seed=seed, **settings) for seed in (5, 5, 6))
    assert one.tokenizer.backend_tokenizer.to_str() == same.tokenizer.backend_tokenizer.to_str()
    weights = one.module.state_dict()
    assert all(torch.equal(same.module.state_dict()[name], tensor) for name, tensor in weights.items())
    assert not torch.equal(other.module.visual_projection.weight, weights["visual_projection.weight"])


def test_a_metric_that_falls_as_models_get_better_keeps_the_epoch_of_its_least_value(captioned: Splits) -> None:
    class Falling(MatchingSide):
        def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
            super().evaluate(adapter, split, splits)
            value = {2: 3.0, 3: 1.0, 4: 2.0}.get(len(self.asked), 9.0)
            return Measurement((Metric("rank", value, higher_is_better=False),), "rank", split.name, len(split))

    settings: dict[str, Any] = {"batch_size": 64, "architecture": SMALL, "vocabulary": 560, "device": "cpu"}
    _, history = pretrain(captioned, epochs=3, measure=Falling().evaluate, **settings)
    assert history.kept == 2


def test_what_cannot_be_measured_is_refused_before_the_first_epoch(captioned: Splits) -> None:
    told: list[int] = []
    with pytest.raises(UserError, match="has no classes"):
        train(captioned, progress=lambda done, total, what: told.append(done))
    assert told == []


def test_images_that_do_not_fit_in_the_memory_allowed_are_refused(few: Splits) -> None:
    with pytest.raises(UserError, match=r"128 images of 32 × 32 pixels take 0.39 MB .* 0.30 MB are allowed"):
        train(few, memory_megabytes=0.3)


def test_the_batches_of_the_digits_are_those_the_embedded_checkpoint_saw(
    digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the recipe written out anew: all pixels prepared at once, templates, then moves, from one generator."""
    seen: list[dict[str, torch.Tensor]] = []

    def fit(self: CompressionTrainer, batches: Any, score: Any, steps: int) -> None:
        seen.extend([batch for _, batch in zip(range(2), batches(3), strict=False)] + [{"steps": torch.tensor(steps)}])

    monkeypatch.setattr(CompressionTrainer, "fit", fit)
    adapter, _ = pretrain(digits, seed=4, architecture=SMALL, device="cpu")
    pixels = adapter.prepare(images=list(digits.train.images))["pixel_values"]
    tokens = adapter.prepare(texts=prompts(digits.class_names, digits.templates))
    labels = torch.from_numpy(digits.train.labels)
    random = torch.Generator().manual_seed(4 * 1_000_003 + 3)
    order = torch.randperm(897, generator=random)
    for step in range(2):
        chosen = order[64 * step : 64 * step + 64]
        rows = labels[chosen] * 8 + torch.randint(8, (64,), generator=random)
        moved = Affine(14.0, 0.15, 0.075)(pixels[chosen], random, -torch.ones(3))
        assert torch.equal(seen[step]["pixel_values"], moved)
        assert torch.equal(seen[step]["labels"], labels[chosen])
        for key in ("input_ids", "attention_mask"):
            assert torch.equal(seen[step][key], tokens[key][rows])
    assert seen[2]["steps"] == 14


def test_training_leaves_the_global_random_state_alone(few: Splits) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(few)
    assert torch.equal(torch.rand(4), expected)


def test_a_checkpoint_is_read_by_transformers_and_by_the_adapter(few: Splits, tmp_path: Path) -> None:
    trained = train(few)
    directory = save_checkpoint(trained, tmp_path / "checkpoint", {"command": "rcc-run job=train", "seed": 0})
    texts = ["a photo of the digit seven"]
    batch = trained.prepare(list(few.test.images[:4]), texts)
    with torch.no_grad():
        expected = trained.outputs(batch)["image_embeds"]
        theirs = CLIPModel.from_pretrained(directory)(**batch).image_embeds
    torch.testing.assert_close(theirs, expected, rtol=1e-5, atol=1e-6)
    ours = CLIPWrapper.load(directory, device="cpu")
    assert torch.equal(ours.encode_image(list(few.test.images[:4])), expected)
    record = json.loads((directory / "TRAINING.json").read_text())
    assert record["command"] == "rcc-run job=train"
    assert record["parameters"] == trained.module.num_parameters()
    assert record["made_with"]["torch"].startswith(torch.__version__.partition("+")[0])
    with pytest.raises(UserError, match="is not empty"):
        save_checkpoint(trained, directory, {})


def test_the_same_weights_give_the_same_bytes(clip: CLIPWrapper, clip_checkpoint: Path, tmp_path: Path) -> None:
    save_checkpoint(clip, tmp_path / "again", {})
    for path in clip_checkpoint.iterdir():
        if path.name != "TRAINING.json":
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_batch_that_does_not_fit_and_data_that_teach_nothing_are_refused(few: Splits) -> None:
    with pytest.raises(UserError, match="batch_size is 129; it must lie between 2 and 128"):
        train(few, batch_size=129)
    empty = Split("train", ArrayImages(np.zeros((0, 8, 8, 3), np.uint8)), labels=np.zeros(0, int))
    with pytest.raises(UserError, match=r"there are no training images; data\.train says how many"):
        train(replace(few, train=empty))
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    alike = Split("train", ArrayImages(images), labels=np.zeros(8, int))
    with pytest.raises(UserError, match="all training images are of one class, and there is none to tell it from"):
        train(replace(few, train=alike), batch_size=4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"widht": 3}, "unknown size 'widht'"),
        ({"hidden": 30, "heads": 4}, "hidden 30 is not a multiple of heads 4"),
        ({"image": 30, "patch": 8}, "image 30 is not a multiple of patch 8"),
        ({"mlp": 0}, "mlp is 0; it must be a whole number from 1 up"),
    ],
)
def test_an_impossible_architecture_is_refused(few: Splits, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(few, architecture=sizes)


def test_the_default_architecture_is_that_of_the_embedded_checkpoint(digits: Splits) -> None:
    new = new_clip(Architecture(), [*digits.class_names, *digits.templates], seed=0)
    record = json.loads((embedded() / "TRAINING.json").read_text())
    assert new.module.num_parameters() == record["parameters"] == 1_327_361


def test_the_embedded_checkpoint_reaches_98_percent_on_the_test_split(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    accuracy = ZeroShotEvaluator().evaluate(clip_tiny, digits.test, digits).main
    assert accuracy.value >= 0.98
    record = json.loads((embedded() / "TRAINING.json").read_text())
    assert accuracy.value == pytest.approx(record["test"]["accuracy"], abs=2 / 360)


def test_the_embedded_checkpoint_is_small_and_says_how_it_was_made() -> None:
    directory = embedded()
    assert sum(path.stat().st_size for path in directory.iterdir()) < 6e6
    record = json.loads((directory / "TRAINING.json").read_text())
    assert record["command"].startswith("rcc-run job=train")
    assert record["seed"] == 0
