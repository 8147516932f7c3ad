"""The specification's data set and loader, on a small folder laid out as ImageNet."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from toys.data_sets import write_imagenet

import rcc
from rcc.data.torch_dataset import ImageNetDataset, create_dataloader
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper


def config_of(folder: Path) -> dict[str, object]:
    sizes = {"calibration": 5, "selection": 5, "batch_size": 8, "image_size": 32}
    return {"path": str(write_imagenet(folder)), **sizes, "classes": "present"}


def test_one_mapping_serves_the_data_set_the_loader_and_the_evaluator(clip_tiny: CLIPWrapper, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    dataset = ImageNetDataset(config)
    loader = create_dataloader(dataset, config)
    pixels, labels = next(iter(loader))
    assert pixels.shape == (8, 3, 32, 32)
    assert labels.tolist() == dataset.split.labels[:8].tolist()
    assert sum(len(each) for _, each in loader) == len(dataset) == 20
    evaluator = rcc.ZeroShotEvaluator(clip_tiny, config | {"class_names": dataset.class_names, "templates": ("a {}",)})
    found = evaluator.evaluate(loader, dataset.class_names)
    assert set(found) == {"accuracy", "top5_accuracy"}
    assert found["top5_accuracy"] == 1


def test_pixels_are_scaled_by_the_mean_and_deviation_of_clip(tmp_path: Path) -> None:
    dataset = ImageNetDataset(config_of(tmp_path))
    white = dataset.pixels.pixels(Image.new("RGB", (40, 40), "white"))[0]
    assert white[:, 0, 0].tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)


def test_unknown_entries_and_numbers_out_of_range_are_refused_together() -> None:
    with pytest.raises(UserError) as refused:
        create_dataloader([1], {"batch_size": 0, "num_worker": 1})  # type: ignore[arg-type]
    assert len(refused.value.problems) == 2
    with pytest.raises(UserError, match="split"):
        ImageNetDataset({"split": "validation"})
