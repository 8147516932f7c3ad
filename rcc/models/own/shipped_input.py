"""Read how a network wants its images from what it ships: an attribute of the module, or a file beside its weights.

Three ways to write it down are known: timm's `pretrained_cfg` (an attribute, or in config.json), torchvision's
transforms of a set of weights (an object in an attribute), and the preprocessor_config.json of transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rcc.errors import UserError
from rcc.limits import read_json

CONFIGS = ("pretrained_cfg", "default_cfg")
TRANSFORMS = ("transforms", "preprocess")
TRANSFORM_ATTRIBUTES = ("crop_size", "resize_size", "mean", "std", "interpolation")
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers of the ways to resize, which processors write."""

Options = dict[str, Any]
"""Some of the options of `rcc.models.own.image_input.ImageInput`, by name."""


def shipped_input(module: nn.Module, beside: Path | None) -> tuple[Options, str]:
    """The options of an `ImageInput` that the network ships with, and where they stand; ({}, "") where it ships none.

    Args:
        beside: the folder of the weights; None to look at the module alone.

    Raises:
        UserError: a file that cannot be read, or a size of images that are not square.
    """
    for name in CONFIGS:
        if options := _of_timm(_mapping(getattr(module, name, None))):
            return options, f"{name} of the network"
    for name in TRANSFORMS:
        found = getattr(module, name, None)
        if found is not None and all(hasattr(found, each) for each in TRANSFORM_ATTRIBUTES):
            return _of_torchvision(found), f"{name} of the network"
    if beside is not None:
        path = beside / "preprocessor_config.json"
        if path.is_file() and (options := _of_transformers(read_json(path))):
            return options, str(path)
        path = beside / "config.json"
        if path.is_file():
            content = read_json(path)
            for part in (*(_mapping(content.get(name)) for name in CONFIGS), content):
                if options := _of_timm(part):
                    return options, str(path)
    return {}, ""


def _of_timm(config: Mapping[str, Any]) -> Options:
    """Of timm's config: the shorter side is resized to size / crop_pct, rounded down."""
    if not {"mean", "std", "input_size"} <= config.keys():
        return {}
    channels, size = len(config["mean"]), _side("input_size", list(config["input_size"])[-2:])
    options: Options = {"channels": channels, "size": size, "mean": config["mean"], "std": config["std"]}
    if isinstance(config.get("crop_pct"), float | int) and 0 < config["crop_pct"] <= 1:
        options["resize"] = int(size / config["crop_pct"])
    if config.get("interpolation") in RESAMPLING.values():
        options["interpolation"] = config["interpolation"]
    return options


def _of_torchvision(transforms: Any) -> Options:
    """Of the transforms of a set of torchvision's weights, whose sizes are lists of one or two."""
    way = getattr(transforms.interpolation, "value", transforms.interpolation)
    return {
        "size": _side("crop_size", transforms.crop_size),
        "resize": _side("resize_size", transforms.resize_size),
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        **({"interpolation": way} if way in RESAMPLING.values() else {}),
    }


def _of_transformers(config: Mapping[str, Any]) -> Options:
    """Of an image processor: it rescales, mostly by 1/255, and normalises, unless it says that it does not."""
    mean, std = config.get("image_mean"), config.get("image_std")
    if not isinstance(mean, list) or not isinstance(std, list):
        return {}
    # `ImageInput` takes values in [0, 1]: those of a processor are these, times `unit`.
    unit = 255.0 * (config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0)
    if not config.get("do_normalize", True):
        mean, std = [0.0] * len(mean), [1.0] * len(std)
    options: Options = {"channels": len(mean)}
    options |= {name: [value / unit for value in values] for name, values in (("mean", mean), ("std", std))}
    sizes = [config.get(name) for name in ("crop_size", "size") if config.get(f"do_{name[:4]}", True) or name == "size"]
    sides = [_side("size", list(each.values()) if isinstance(each, dict) else each) for each in sizes if each]
    if sides:
        options |= {"size": sides[0], "resize": sides[-1]}
    if config.get("resample") in RESAMPLING:
        options["interpolation"] = RESAMPLING[config["resample"]]
    return options


def _side(name: str, value: Any) -> int:
    """The side of a square that is written as a number or as a list of one or two.

    Raises:
        UserError: two that differ.
    """
    sides = value if isinstance(value, list | tuple) else [value]
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise UserError(
            f"the network ships {name} {value}, and images are cut to squares here: say model.image_size and"
            " model.resize yourself."
        )
    return int(sides[0])


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or a dataclass as one, as timm's is; else {}."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return value if isinstance(value, Mapping) else {}
