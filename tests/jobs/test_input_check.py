"""Pixels of a wrong mean or scale: others are tried on some images, and a clearly better one is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.jobs.input_check import FIRST, LEAST, likelier_normalisation
from rcc.models.own.image_input import ImageInput
from rcc.models.own.network import NetworkAdapter

LEVELS = 4


class Brightness(nn.Module):
    """Tells the level of grey, of values in [0, 1]; counts the images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(0.1, 0.9, LEVELS))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return -200 * (x.mean((1, 2, 3))[:, None] - self.levels).square()


def grey(count: int, labelled: bool = True, calibration: int = 120) -> Splits:
    random = np.random.default_rng(0)

    def split(name: str, size: int) -> Split:
        labels = np.arange(size) % LEVELS
        levels = 255 * np.linspace(0.1, 0.9, LEVELS)[labels, None, None, None]
        images = (levels + random.normal(scale=4, size=(size, 8, 8, 3))).clip(0, 255).astype(np.uint8)
        return Split(name, ArrayImages(images), labels=labels if labelled else None)

    names = tuple(f"level {level}" for level in range(LEVELS)) if labelled else ()
    sizes = {"train": 4, "calibration": calibration, "selection": count - calibration, "test": 4}
    return Splits(*(split(name, size) for name, size in sizes.items()), class_names=names)


def network(mean: list[float] | None, std: list[float] | None) -> NetworkAdapter:
    adapter = NetworkAdapter(Brightness(), ImageInput(8, mean=mean, std=std))
    adapter.check_input = True
    return adapter.eval()


UNIT = ([0.0] * 3, [1.0] * 3)


def test_a_clearly_better_normalisation_is_named_with_the_option_that_sets_it_and_nothing_is_changed() -> None:
    wrong = network(None, None)
    found = likelier_normalisation(wrong, grey(240))
    assert found.startswith("WARNING: pixels are probably normalised wrongly. Normalised to [0, 1] (mean [0,0,0], std")
    assert "accuracy is 100.0% where it is " in found
    assert "on 216 images of calibration and selection. Nothing was changed." in found
    assert "model.mean=[0,0,0] model.std=[1,1,1]; not to be asked: model.check_input=false." in found
    assert wrong.images == ImageInput(8)


def test_the_right_one_passes_in_silence_after_few_images() -> None:
    right = network(*UNIT)
    assert likelier_normalisation(right, grey(240)) == ""
    assert right.module.seen == 4 * FIRST


def test_the_cost_is_bounded_and_the_check_can_be_left_out() -> None:
    wrong = network(None, None)
    likelier_normalisation(wrong, grey(2000, calibration=1000))
    assert wrong.module.seen <= 4 * FIRST + 2 * (LEAST + 32 - FIRST)
    skipped = network(None, None)
    skipped.check_input = False
    assert likelier_normalisation(skipped, grey(240)) == ""
    assert skipped.module.seen == 0


def test_without_labels_it_goes_by_how_much_the_classes_tell() -> None:
    found = likelier_normalisation(network([-5.0] * 3, [1.0] * 3), grey(240, labelled=False))
    assert "Normalised to [0, 1]" in found
    assert "surer and more varied (1." in found
    assert likelier_normalisation(network(*UNIT), grey(240, labelled=False)) == ""


def test_too_few_images_are_said() -> None:
    found = likelier_normalisation(network(None, None), grey(199))
    assert found == (
        "how pixels are normalised was not checked: that takes 200 images, and calibration and selection have 199."
    )


@pytest.mark.parametrize("classes", [3, 5])
def test_classes_of_other_data_are_not_compared(classes: int) -> None:
    adapter = network(*UNIT)
    adapter.module.levels = nn.Parameter(torch.linspace(0.1, 0.9, classes))
    assert likelier_normalisation(adapter, grey(240)) == ""
