"""The boundary of the k smallest magnitudes, against a full sort by (magnitude, tensor, flat index)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.ops import cut
from rcc.ops.cut import Boundary, find_cut
from rcc.ops.scores import Scores


def below(boundary: Boundary, tensors: list[torch.Tensor]) -> list[list[int]]:
    """The flat indices that the boundary takes of each float32 tensor."""
    keys = [tensor.abs().flatten().view(torch.int32).numpy() for tensor in tensors]
    places = [np.arange(len(each)) for each in keys]
    ties = [boundary.ties_before(index, len(each)) for index, each in enumerate(keys)]
    return [
        np.flatnonzero((each < boundary.key) | ((each == boundary.key) & (place < before))).tolist()
        for each, place, before in zip(keys, places, ties, strict=True)
    ]


def sorted_out(tensors: list[torch.Tensor], count: int) -> list[list[int]]:
    order = sorted(
        (float(value), index, place)
        for index, tensor in enumerate(tensors)
        for place, value in enumerate(tensor.abs().flatten())
    )
    return [sorted(place for _, of, place in order[:count] if of == index) for index in range(len(tensors))]


@pytest.mark.parametrize("direct", [0, 1 << 14])
@given(
    seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 120), min_size=1, max_size=4), share=st.floats(0, 1),
    kinds=st.integers(1, 30),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_exactly_the_smallest_lie_below(direct: int, seed: int, sizes: list[int], share: float, kinds: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randint(-kinds, kinds + 1, (size,), generator=generator).float() for size in sizes]
    count = round(share * sum(sizes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "DIRECT", direct)
        assert below(find_cut(Scores.of(tensors), count), tensors) == sorted_out(tensors, count)


def test_nothing_lies_below_the_boundary_of_none() -> None:
    tensors = [torch.zeros(3), torch.ones(2)]
    assert below(find_cut(Scores.of(tensors), 0), tensors) == [[], []]


def test_ties_are_taken_in_earlier_tensors_up_to_a_place() -> None:
    boundary = Boundary(key=5, tensor=1, place=2)
    assert [boundary.ties_before(index, 7) for index in range(3)] == [7, 2, 0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_many_distinct_values_are_cut_in_about_one_pass(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    values, seen = torch.randn(400_000, generator=torch.Generator().manual_seed(3)), []
    probe = cut._probe
    monkeypatch.setattr(cut, "_probe", lambda scores, *rest: seen.append(scores.numel) or probe(scores, *rest))
    boundary = find_cut(Scores.of([values]), round(share * 400_000))
    assert sum(map(len, below(boundary, [values]))) == round(share * 400_000)
    assert seen.count(values.numel()) <= 2
