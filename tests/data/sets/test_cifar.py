"""CIFAR: labels by the published order, prompts of the literature, other data sets told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.data_sets import write_cifar
from toys.files import picture, write_table

from rcc.data.registry import load_data
from rcc.data.sets.class_lists import class_names
from rcc.errors import UserError


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_cut_in_strata_with_the_published_names(tmp_path: Path, classes: int) -> None:
    write_cifar(tmp_path, classes)
    splits = load_data(f"cifar{classes}", path=str(tmp_path), calibration=classes, selection=classes)
    assert splits.sizes() == {"train": 2 * classes, "calibration": classes, "selection": classes, "test": 4 * classes}
    assert all(np.bincount(split.labels).tolist() == [len(split) // classes] * classes for _, split in splits)
    assert splits.class_names == class_names(f"cifar{classes}")
    assert len(splits.templates) == 18


def test_another_number_of_classes_is_another_data_set(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, each=1)
    with pytest.raises(UserError, match=r"part 'train' has 10 classes \(airplane, automobile, bird, …\), not the 100"):
        load_data("cifar100", path=str(tmp_path))


def test_labels_must_be_whole_numbers_in_range(tmp_path: Path) -> None:
    images = [picture(number) for number in range(3)]
    write_table(tmp_path / "train.parquet", {"image": images, "label": ["cat", "dog", "cat"]})
    with pytest.raises(UserError, match=r"column 'label' holds <U3, not whole-number labels"):
        load_data("cifar10", path=str(tmp_path))
    write_table(tmp_path / "train.parquet", {"image": images, "label": [0, 1, 11]})
    with pytest.raises(UserError, match="has 12 classes"):
        load_data("cifar10", path=str(tmp_path))
    write_table(tmp_path / "train.parquet", {"image": images, "label": [0, 1, -1]})
    with pytest.raises(UserError, match="holds the label -1"):
        load_data("cifar10", path=str(tmp_path))
