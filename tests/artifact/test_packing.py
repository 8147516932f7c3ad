from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import Tensor

from rcc.artifact.entries import Matrix, Vector
from rcc.artifact.packing import Contents, pack
from rcc.errors import WorkError
from rcc.layers.encoding import encode
from rcc.layers.grid import from_grid

TENSORS = {
    "b.weight": torch.arange(1.0, 13.0).reshape(3, 4),
    "b.bias": torch.tensor([1.0, 2.0, 3.0]),
    "a.bias": torch.tensor([4.0]),
    "a.step": torch.tensor([5.0]),
    "scalar": torch.tensor(2.5),
    "count": torch.tensor(7),
    "image": torch.ones(2, 1, 3, 3),
}


def packed(tensors: dict[str, Tensor], dtype: torch.dtype | None = None, entropy: str = "none", **steps: str):
    contents = Contents()
    parts = [bytes(part) for part in pack(tensors, steps, dtype, entropy, contents)]
    return parts, contents


def test_vectors_of_a_dtype_lie_together_by_attribute_and_matrices_follow_by_name() -> None:
    parts, contents = packed(TENSORS)
    assert [len(part) for part in parts] == [4 * 6, 8, 4 * 12, 4 * 18]
    assert np.frombuffer(parts[0], np.float32).tolist() == [4.0, 1.0, 2.0, 3.0, 2.5, 5.0]
    assert np.frombuffer(parts[1], np.int64).tolist() == [7]
    assert np.frombuffer(parts[2], np.float32).tolist() == list(range(1, 13))
    assert contents.streams["float32"].sha256 == hashlib.sha256(parts[0]).hexdigest()[:12]
    assert {name for name, entry in contents.tensors.items() if isinstance(entry, Vector)} == {
        "b.bias", "a.bias", "a.step", "scalar", "count",
    }  # fmt: skip


def test_the_same_tensors_in_any_order_give_the_same_bytes() -> None:
    one, two = packed(TENSORS, entropy="zstd"), packed(dict(reversed(TENSORS.items())), entropy="zstd")
    assert one[0] == two[0]
    assert one[1].tensors == two[1].tensors


@pytest.mark.parametrize("entropy", ["none", "zstd"])
def test_a_matrix_is_stored_as_it_is_encoded(entropy: str) -> None:
    matrix = torch.zeros(40, 100)
    matrix[::3, ::7] = 1.5
    parts, contents = packed({"w": matrix}, torch.float16, entropy)
    encoded = encode(matrix.half(), entropy)
    assert parts == [bytes(part) for part in encoded.parts]
    entry = contents.tensors["w"]
    assert isinstance(entry, Matrix)
    assert (entry.encoding, entry.dtype, entry.nonzeros, entry.lengths) == (
        encoded.encoding, "float16", 14 * 15, encoded.lengths,
    )  # fmt: skip
    assert entry.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def test_a_quantised_matrix_is_stored_as_its_whole_numbers() -> None:
    whole = torch.tensor([[1, -127, 3], [5, 6, 7]], dtype=torch.int8)
    step = torch.tensor([0.5, 0.25])
    tensors = {"w": from_grid(whole, step), "w_step": step}
    parts, contents = packed(tensors, torch.float16, w="w_step")
    assert np.frombuffer(parts[0], np.float16).tolist() == [0.5, 0.25]
    assert np.frombuffer(parts[1], np.int8).tolist() == [1, -127, 3, 5, 6, 7]
    entry = contents.tensors["w"]
    assert isinstance(entry, Matrix)
    assert (entry.dtype, entry.stepped) == ("int8", True)


def test_a_matrix_that_left_its_grid_is_refused_by_name() -> None:
    step = torch.tensor([0.5, 0.25])
    tensors = {"unit.sparse": torch.tensor([[0.5, 0.6], [0.25, 0.0]]), "unit.sparse_step": step}
    with pytest.raises(WorkError, match=r"unit\.sparse \(2, 2\): 1 of 4 values are not whole multiples"):
        packed(tensors, None, **{"unit.sparse": "unit.sparse_step"})


def test_steps_too_small_for_the_dtype_are_refused_by_name() -> None:
    step = torch.tensor([1e-7])
    tensors = {"unit.left": from_grid(torch.tensor([[3]]), step), "unit.left_step": step}
    steps = {"unit.left": "unit.left_step"}
    with pytest.raises(WorkError, match=r"unit\.left \(1, 1\): torch\.float16 does not hold .* of 1e-07"):
        packed(tensors, torch.float16, **steps)
    packed(tensors, torch.bfloat16, **steps)
