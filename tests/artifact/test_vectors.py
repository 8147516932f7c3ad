from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rcc.artifact.vectors import MULTIPLES, POWERS, coded, decoded, problem_of, stream_of
from rcc.layers.grid import bits_of, multiples, powers

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def back(values: torch.Tensor) -> tuple[str, torch.Tensor]:
    word, kept = coded(values)
    assert problem_of(word, values.dtype) == ""
    assert stream_of(word, "float16") == {"": "float16", "=": "", "^": POWERS, "*": MULTIPLES}[word[:1]]
    return word, decoded(word, torch.empty(0) if kept is None else kept, len(values), values.dtype)


@given(
    st.sampled_from(FLOATS).flatmap(
        lambda dtype: hnp.arrays(f"i{dtype.itemsize}", st.integers(0, 30)).map(
            lambda bits: torch.from_numpy(bits).view(dtype)
        )
    )
)
def test_any_bits_come_back(values: torch.Tensor) -> None:
    assert torch.equal(bits_of(back(values)[1]), bits_of(values))


@given(st.sampled_from(FLOATS), st.lists(st.integers(-60, 60), min_size=8, max_size=40))
def test_powers_take_a_byte_each(dtype: torch.dtype, exponents: list[int]) -> None:
    values = powers(torch.tensor(exponents), dtype)
    word, found = back(values)
    assert word[0] in "=^"
    assert torch.equal(bits_of(found), bits_of(values))
    assert values.double() == pytest.approx([2 ** (k / 8) for k in exponents], rel=torch.finfo(dtype).eps)


@given(
    st.sampled_from(FLOATS),
    st.lists(st.integers(-127, 127), min_size=16, max_size=40),
    st.integers(8, 15),
    st.integers(-12, 3),
)
def test_multiples_take_a_byte_each(dtype: torch.dtype, whole: list[int], digit: int, octave: int) -> None:
    values = multiples(torch.tensor([127, *whole]), (digit, octave), dtype)
    word, found = back(values)
    assert word[0] in "=*"
    assert torch.equal(bits_of(found), bits_of(values))
    if dtype != torch.bfloat16:
        assert found.double().tolist() == [digit * math.ldexp(q, octave) for q in (127, *whole)]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
def test_a_repeated_value_is_a_word_alone(dtype: torch.dtype) -> None:
    for number in (0, 1, -1):
        values = torch.full((40,), number).to(dtype)
        word, kept = coded(values)
        assert (word[0], len(word), kept) == ("=", 1 + 2 * dtype.itemsize, None)
        assert torch.equal(back(values)[1], values)
    assert coded(torch.ones(40, dtype=torch.float16)) == ("=3c00", None)


def test_a_negative_zero_and_other_integers_stay_as_they_are() -> None:
    values = multiples(torch.arange(-20, 128), (9, -9), torch.float16)
    values[20] = -0.0
    assert coded(values)[0] == ""
    assert coded(torch.arange(40))[0] == ""


@pytest.mark.parametrize(
    ("word", "dtype", "reason"),
    [
        ("=3c", torch.float16, "is said to repeat"),
        ("=02", torch.bool, "is said to repeat"),
        ("^5", torch.int64, "is on a grid and of"),
        ("^1001", torch.float16, "has the exponent 1001"),
        ("*7p1", torch.float16, "has a step 7p1"),
        ("*9p999", torch.float16, "has a step 9p999"),
        ("*9", torch.float16, "which is none of a vector"),
        ("^^", torch.float16, "which is none of a vector"),
    ],
)
def test_words_that_are_none_are_refused(word: str, dtype: torch.dtype, reason: str) -> None:
    assert reason in problem_of(word, dtype)
