"""What is foretold of whole numbers by their histogram: bytes, and the magnitude from which they are outliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcc.layers.encoding import encode
from rcc.layers.estimate import BODIES, bodies, coded_bytes, coded_bytes_of


def histogram(numbers: np.ndarray) -> np.ndarray:
    return np.bincount(numbers.astype(np.int8).reshape(-1).view(np.uint8), minlength=256)


def numbers(far: int, share: float) -> np.ndarray:
    draw = np.random.default_rng(1)
    body = draw.choice([-1, 0, 1], (300, 400), p=[0.2, 0.6, 0.2])
    return np.where(draw.random(body.shape) < share, draw.choice([-far, far], body.shape), body)


def test_bytes_are_those_of_the_entropy_and_its_tables() -> None:
    counts = np.zeros(256)
    counts[[0, 1, 2, 3]] = 25_000.0  # two bits each
    assert coded_bytes_of(counts, 25_000.0) == pytest.approx(25_000 * 1.008 + 40)
    assert coded_bytes_of(np.eye(256)[5] * 1000, 0.0) == 0.0
    assert coded_bytes(torch.zeros(3, 4, dtype=torch.int8)) == 0


def test_numbers_beyond_the_body_that_takes_fewest_bytes_are_outliers() -> None:
    assert 1 in bodies(histogram(numbers(40, 0.01)))
    assert bodies(histogram(numbers(40, 0.0))) == []  # there are none beyond any body
    many = np.random.default_rng(2).integers(-100, 101, (300, 400))
    assert bodies(histogram(many)) == []  # nearly all would be


def test_the_smallest_of_all_bodies_encoded_is_among_them() -> None:
    whole = torch.from_numpy((np.random.default_rng(4).standard_t(2, (300, 400)) * 1.2).clip(-100, 100).astype(np.int8))
    sizes = {}
    for largest in BODIES:
        far = whole.abs() > largest
        parts = whole.masked_fill(far, 0), whole.masked_fill(~far, 0)
        sizes[largest] = sum(encode(part, "zstd").nbytes for part in parts)
    assert min(BODIES, key=sizes.__getitem__) in bodies(histogram(whole.numpy()))
