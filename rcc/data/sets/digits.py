"""scikit-learn's handwritten digits as captioned 32 × 32 colour images: real data that needs no download.

The 1,797 images are the test part of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin
and Kaynak, 1998): 8 × 8 pixels, 17 grey levels.
"""

from __future__ import annotations

import gzip
from importlib.metadata import distribution

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits, class_texts, stratified_parts

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTION = "a photo of the digit {}"
TEMPLATES = (
    CAPTION,
    "a photo of the number {}",
    "a handwritten {}",
    "a handwritten digit {}",
    "a picture of the digit {}",
    "a blurry picture of the number {}",
    "an image of the number {}",
    "this is the digit {}",
)
IMAGE_SIZE = 32
TABLE = "sklearn/datasets/data/digits.csv.gz"
"""Rows of 64 pixels and a label."""


def load_digits(
    train: int = 897, calibration: int = 256, selection: int = 284, test: int = 360, seed: int = 0
) -> Splits:
    """The digits in four disjoint stratified splits of the sizes given, with texts such as "a photo of the digit
    seven".

    The embedded checkpoint was trained on the default sizes and seed: with others, some of its training
    images fall into the other splits and the scores flatter it. Slices are cut in the order test, selection,
    calibration, train, so a smaller calibration split or train split leaves the test split as it is.

    Raises:
        UserError: a size below 1 (0 for train), or more than 1,797 items in all.
    """
    pixels, labels = _read()
    sizes = {"test": test, "selection": selection, "calibration": calibration, "train": train}
    parts = stratified_parts(labels, sizes, seed)
    images = np.stack([enlarged(image) for image in pixels])
    cut = {name: _split(name, images[part], labels[part]) for name, part in parts.items()}
    return Splits(cut["train"], cut["calibration"], cut["selection"], cut["test"], CLASS_NAMES, TEMPLATES)


def enlarged(digit: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An (8, 8) image of values 0..16 as (32, 32, 3) uint8, enlarged by bicubic interpolation."""
    grey = Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC).convert("RGB"))


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images (N, 8, 8) of values 0..16 and labels (N,), from the file that scikit-learn is installed with.

    Its `load_digits` reads the same, after an import that takes 140 MB.
    """
    with gzip.open(str(distribution("scikit-learn").locate_file(TABLE)), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _split(name: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    return Split(name, ArrayImages(images), labels=labels, texts=class_texts(labels, CLASS_NAMES, TEMPLATES))
