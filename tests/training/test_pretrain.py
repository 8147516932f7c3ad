"""Pre-training: it learns, it repeats, it leaves a checkpoint that transformers reads; and the one that ships."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPModel

from rcc.data.digits import load_digits
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.evaluation.zero_shot import ZeroShotEvaluator
from rcc.models.clip import CLIPWrapper
from rcc.models.registry import embedded
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


@pytest.mark.parametrize("batch_size", [0, -1, 129])
def test_a_batch_that_does_not_fit_is_refused(few: Splits, batch_size: int) -> None:
    with pytest.raises(UserError, match=f"batch_size is {batch_size}; it must lie between 1 and 128"):
        train(few, batch_size=batch_size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"widht": 3}, "unknown size 'widht'"),
        ({"hidden": 30, "heads": 4}, "hidden 30 is not a multiple of heads 4"),
        ({"image": 30, "patch": 8}, "image 30 is not a multiple of patch 8"),
        ({"mlp": 0}, "mlp is 0; it must be at least 1"),
    ],
)
def test_an_impossible_architecture_is_refused(few: Splits, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(few, architecture=sizes)


def test_the_default_architecture_is_that_of_the_embedded_checkpoint(digits: Splits) -> None:
    new = new_clip(Architecture(), [*digits.class_names, *digits.templates], seed=0)
    record = json.loads((embedded("clip_tiny") / "TRAINING.json").read_text())
    assert new.module.num_parameters() == record["parameters"] == 1_327_361


def test_the_embedded_checkpoint_reaches_98_percent_on_the_test_split(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    accuracy = ZeroShotEvaluator().evaluate(clip_tiny, digits.test, digits).main
    assert accuracy.value >= 0.98
    record = json.loads((embedded("clip_tiny") / "TRAINING.json").read_text())
    assert accuracy.value == pytest.approx(record["test"]["accuracy"], abs=2 / 360)


def test_the_embedded_checkpoint_is_small_and_says_how_it_was_made() -> None:
    directory = embedded("clip_tiny")
    assert sum(path.stat().st_size for path in directory.iterdir()) < 6e6
    record = json.loads((directory / "TRAINING.json").read_text())
    assert record["command"].startswith("rcc-run job=train")
    assert record["seed"] == 0
