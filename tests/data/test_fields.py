"""Fields: values of any kind are taken, cut and told apart by their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rcc.data.fields import Values
from rcc.data.splits import Split
from rcc.errors import UserError


@pytest.mark.parametrize("values", [np.arange(12).reshape(4, 3), ["a", "b", "c", "d"], [(1,), (2, 3), (), (4,)]])
def test_subsets_and_slices_take_the_values_in_the_order_asked(values: Any) -> None:
    field = Values(values)
    assert [repr(each) for each in field.subset(np.array([2, 0]))] == [repr(values[2]), repr(values[0])]
    assert [repr(each) for each in field[1:3]] == [repr(values[1]), repr(values[2])]
    assert field.subset(np.array([3])).digests() == field.digests()[3:]
    assert len(set(field.digests())) == 4


def test_the_fingerprint_sees_each_value_of_an_array() -> None:
    wave = np.arange(2000, dtype=np.float32)
    other = wave.copy()
    other[1000] += 1e-3  # repr() of both is the same
    found = {Split("test", audio=[each]).fingerprint for each in (wave, other, wave.astype(np.float64), wave[None])}
    assert len(found) == 4
    assert Split("test", audio=[wave]).fingerprint == Split("test", audio=[torch.tensor(wave)]).fingerprint


def test_graphs_as_mappings_of_arrays_are_told_apart() -> None:
    edges = np.array([[0, 1], [1, 2]])
    graphs: list[Any] = [{"nodes": np.ones((3, 2)), "edges": edges}, {"nodes": np.ones((3, 2)), "edges": edges[:1]}]
    assert len(set(Split("test", graphs=graphs).digests)) == 2


def test_values_of_unknown_bytes_are_refused() -> None:
    with pytest.raises(UserError, match="type object has no known bytes"):
        Split("test", graphs=[object()]).digests  # noqa: B018
