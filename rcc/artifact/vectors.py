"""Store a vector as one word, as powers on a logarithmic grid or as multiples of a step, where it is exactly that.

    =3c00       every value has these bits
    ^-53        2^((k - 53) / 8), a byte for each k: the steps of quantised matrices
    *9p-12      9 · 2^-12 · q, a byte for each q: biases and norms that were rounded to 8 bits

Found by trying: what a vector is, its values tell, and any other is stored as it is.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from rcc.layers.grid import LEAST_DIGIT, MOST_DIGIT, MOST_EXPONENT, multiples, powers, to_multiples, to_powers

POWERS, MULTIPLES = "powers", "multiples"
"""The streams of their whole numbers, beside those named by a dtype."""
LEAST_ALIKE, LEAST_POWERS, LEAST_MULTIPLES = 4, 8, 16
"""Values from which each pays for its word in the manifest."""
_MOST_OCTAVES = 200
_WORD = re.compile(r"=(?P<bits>[0-9a-f]+)|\^(?P<base>-?[0-9]{1,4})|\*(?P<digit>[0-9]{1,2})p(?P<octave>-?[0-9]{1,3})")
_SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def coded(values: Tensor) -> tuple[str, Tensor | None]:
    """The word of a vector (n,) and what is stored of it: nothing, whole numbers (int8), or the values themselves,
    whose word is empty."""
    if len(values) >= LEAST_ALIKE:
        bits = values.contiguous().view(_SIGNED[values.element_size()])
        if bool((bits == bits[0]).all()):
            size = values.element_size()
            return f"={int(bits[0]) % (1 << 8 * size):0{2 * size}x}", None
    if not torch.is_floating_point(values):
        return "", values
    if len(values) >= LEAST_POWERS and (exponents := to_powers(values)) is not None:
        base = int(exponents.median())  # so that most are near zero, whatever the matrix
        whole = exponents - base
        if int(whole.min()) >= -128 and int(whole.max()) <= 127:
            return f"^{base}", whole.to(torch.int8)
    if len(values) >= LEAST_MULTIPLES and (found := to_multiples(values)) is not None:
        whole, (digit, octave) = found
        return f"*{digit}p{octave}", whole
    return "", values


def decoded(word: str, whole: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """The vector (count,) of a word that `problem_of` found nothing wrong with; `whole` is what was stored of it."""
    found = _WORD.fullmatch(word)
    if found is None:
        return whole
    if found["bits"] is not None:
        size = dtype.itemsize
        bits = int(found["bits"], 16)
        signed = bits - (1 << 8 * size) if size > 1 and bits >> (8 * size - 1) else bits
        return torch.full((count,), signed, dtype=_SIGNED[size]).view(dtype)
    if found["base"] is not None:
        return powers(whole.to(torch.int64) + int(found["base"]), dtype)
    return multiples(whole, (int(found["digit"]), int(found["octave"])), dtype)


def problem_of(word: str, dtype: torch.dtype) -> str:
    """What is wrong with a word; empty where nothing is."""
    found = _WORD.fullmatch(word)
    if not word:
        return ""
    if found is None:
        return f"has a word {word[:20]!r}, which is none of a vector"
    if found["bits"] is not None:
        fits = len(found["bits"]) == 2 * dtype.itemsize and (dtype != torch.bool or int(found["bits"], 16) < 2)
        return "" if fits else f"is said to repeat {word[:20]!r}, which is no {dtype}"
    if not torch.is_floating_point(torch.empty(0, dtype=dtype)):
        return f"is on a grid and of {dtype}"
    if found["base"] is not None:
        return "" if abs(int(found["base"])) <= MOST_EXPONENT else f"has the exponent {found['base']}"
    fits = LEAST_DIGIT <= int(found["digit"]) <= MOST_DIGIT and abs(int(found["octave"])) <= _MOST_OCTAVES
    return "" if fits else f"has a step {word[1:]}"


def stream_of(word: str, dtype: str) -> str:
    """The stream that a vector's values lie in; empty for one of a repeated value."""
    return {"": dtype, "=": "", "^": POWERS, "*": MULTIPLES}[word[:1]]
