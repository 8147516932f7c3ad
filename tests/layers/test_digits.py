from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.layers.digits import alphabet, pack_digits, packed_length, per_byte, unpack_digits


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, int]:
    least = draw(st.integers(-128, 127))
    return least, draw(st.integers(least, min(127, least + 40)))


@given(spans(), st.booleans(), st.integers(0, 60), st.randoms(use_true_random=False))
def test_numbers_of_any_span_come_back(span: tuple[int, int], zero: bool, count: int, random: object) -> None:
    numbers = alphabet(span, zero)
    if not len(numbers):
        return
    values = np.array([random.choice(numbers) for _ in range(count)], np.int8)  # type: ignore[attr-defined]
    packed = pack_digits(values, numbers)
    assert len(packed) == packed_length(count, len(numbers))
    np.testing.assert_array_equal(unpack_digits(packed.tobytes(), count, numbers), values)


def test_a_byte_holds_as_many_digits_as_fit() -> None:
    assert [per_byte(base) for base in (2, 3, 4, 5, 6, 7, 16, 17, 255)] == [8, 5, 4, 3, 3, 2, 2, 1, 1]


def test_the_first_value_is_the_most_significant_digit_and_zeros_fill_the_last_byte() -> None:
    values = np.array([3, -3, 0, 1], np.int8)
    assert pack_digits(values[:3], alphabet((-3, 3), True)).tolist() == [6 * 7 + 0, 3 * 7]
    assert pack_digits(values[[0, 1, 3]], alphabet((-3, 3), False)).tolist() == [5 * 36 + 0 * 6 + 3]
    assert pack_digits(np.array([1, -1, 1], np.int8), alphabet((-1, 1), False)).tolist() == [0b10100000]


def test_one_number_takes_no_bytes() -> None:
    numbers = alphabet((4, 4), True)
    assert packed_length(1000, 1) == 0
    assert pack_digits(np.full(1000, 4, np.int8), numbers).tolist() == []
    assert unpack_digits(b"", 3, numbers).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("part", "count", "reason"),
    [
        (bytes([49]), 2, "has a byte 49 among its digits of base 7, which end at 48"),
        (bytes([8]), 1, "has digits beyond its 1 values"),
    ],
)
def test_bytes_that_nothing_packs_to_are_refused(part: bytes, count: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_digits(part, count, alphabet((-3, 3), True))
