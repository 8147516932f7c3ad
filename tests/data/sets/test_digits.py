"""The digits as data: sizes, captions, images, and the registry that loads them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rcc.data.registry import load_data
from rcc.data.sets.digits import enlarged, load_digits
from rcc.data.splits import Splits, check_disjoint
from rcc.errors import UserError


def test_the_default_splits_use_all_1797_images_once(digits: Splits) -> None:
    assert digits.sizes() == {"train": 897, "calibration": 256, "selection": 284, "test": 360}
    check_disjoint([split for _, split in digits])
    assert len({digest for _, split in digits for digest in split.digests}) == 1797


def test_every_split_is_stratified(digits: Splits) -> None:
    whole = np.bincount(np.concatenate([split.labels for _, split in digits]))
    for _, split in digits:
        expected = whole * len(split) / 1797
        assert np.abs(np.bincount(split.labels) - expected).max() < 2


def test_captions_name_the_class_of_their_image(digits: Splits) -> None:
    assert digits.test.texts[0] == f"a photo of the digit {digits.class_names[digits.test.labels[0]]}"
    names = [digits.class_names[label] for label in digits.train.labels]
    assert all(caption.endswith(name) for caption, name in zip(digits.train.texts, names, strict=True))


def test_captions_go_through_the_templates_in_turn(digits: Splits) -> None:
    name = digits.class_names[digits.calibration.labels[9]]
    assert digits.calibration.texts[9] == digits.templates[1].replace("{}", name)


def test_images_are_the_digits_enlarged_bicubically() -> None:
    ramp = np.linspace(0, 16, 64).reshape(8, 8)
    image = enlarged(ramp)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert (image[..., 0] == image[..., 2]).all()
    assert image.min() == 0
    assert image.max() == 255
    shrunk = np.asarray(Image.fromarray(image).convert("L").resize((8, 8), Image.Resampling.BOX))
    assert np.abs(shrunk - ramp * 255 / 16).max() < 8


def test_another_seed_gives_other_splits_and_the_same_seed_the_same() -> None:
    small = {"train": 100, "calibration": 20, "selection": 20, "test": 20}
    assert load_digits(**small, seed=1).fingerprint == load_digits(**small, seed=1).fingerprint
    assert load_digits(**small, seed=1).fingerprint != load_digits(**small, seed=2).fingerprint


def test_a_smaller_training_split_leaves_the_test_split_as_it_is(digits: Splits) -> None:
    assert load_digits(train=50).test.fingerprint == digits.test.fingerprint


def test_too_many_items_are_refused() -> None:
    with pytest.raises(UserError, match="1898 items are asked for and 1797 exist"):
        load_data("digits", train=998)


def test_an_unknown_data_set_lists_what_exists() -> None:
    with pytest.raises(UserError, match=r"unknown data 'digit'\. Did you mean 'digits'\? Available: .*digits"):
        load_data("digit")


def test_an_unknown_option_lists_what_exists() -> None:
    with pytest.raises(UserError, match=r"data 'digits': unknown option 'tests'\. Did you mean 'test'\?"):
        load_data("digits", tests=3)
