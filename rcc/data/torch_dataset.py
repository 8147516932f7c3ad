"""Serve a part of ImageNet to a `torch` data loader as pixels and labels, by the specification's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rcc.data.sets.class_lists import templates
from rcc.data.sets.imagenet import load_imagenet
from rcc.data.splits import ROLES
from rcc.errors import Problems
from rcc.models.own.image_input import ImageInput

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the images CLIP was trained on: Radford et al. (2021), as its processor has them."""
OF_DATA = ("path", "per_class", "classes", "train", "calibration", "selection", "test", "seed", "unreadable")
OF_PIXELS = {"image_size": 224, "mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic"}
OF_LOADER = {"batch_size": 256, "shuffle": False, "num_workers": 0}
OF_EVALUATION = ("dataset_name", "class_names", "templates")
KNOWN = (*OF_DATA, *OF_PIXELS, *OF_LOADER, *OF_EVALUATION, "split")


class ImageNetDataset(Dataset[tuple[Tensor, int]]):
    """Pixels (3, S, S) float32 and the label of each image of one split.

    Attributes:
        split: the images with their labels.
        class_names, templates: for zero-shot prompts.

    Args:
        config: the options of `load_imagenet`; `split`, one of train, calibration, selection and test (the default);
            `image_size`, `mean`, `std` and `interpolation`, CLIP's by default. Entries for the loader and the evaluator
            may stand in it too.

    Raises:
        UserError: an unknown entry, or what `load_imagenet` refuses.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        problems = _known(config)
        role = str(config.get("split", "test"))
        problems.choice("split", role, ROLES)
        problems.done()
        pixels = {name: config.get(name, default) for name, default in OF_PIXELS.items()}
        self.pixels = ImageInput(size=pixels.pop("image_size"), **pixels)
        splits = load_imagenet(**{name: config[name] for name in OF_DATA if name in config})
        self.split, self.class_names, self.templates = splits[role], splits.class_names, templates("imagenet")

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        assert self.split.labels is not None
        return self.pixels.pixels(self.split.images[index])[0], int(self.split.labels[index])


def create_dataloader(dataset: Dataset[Any], config: Mapping[str, Any]) -> DataLoader[Any]:
    """Pairs (pixels (B, 3, S, S), labels (B,)) with the `batch_size`, `shuffle`, `num_workers` and `seed` of
    `config`; the entries of the data set and the evaluator may stand in it too.

    Raises:
        UserError: an unknown entry, or a number out of range.
    """
    problems = _known(config)
    options = {name: config.get(name, default) for name, default in OF_LOADER.items()}
    for name, least in (("batch_size", 1), ("num_workers", 0)):
        problems.check(
            type(options[name]) is int and options[name] >= least,
            f"{name} is {options[name]}; it must be a whole number ≥ {least}.",
        )
    problems.done()
    return DataLoader(dataset, **options, generator=torch.Generator().manual_seed(int(config.get("seed", 0))))


def _known(config: Mapping[str, Any]) -> Problems:
    problems = Problems("config")
    for name in config:
        problems.choice("entry", name, KNOWN)
    return problems
