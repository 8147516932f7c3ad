from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rcc.artifact.weights import write_checkpoint, write_packed

TENSORS = {
    "b.weight": torch.arange(12.0).reshape(3, 4),
    "a.half": torch.tensor([1.5, -2.0, 3.0], dtype=torch.float16),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "double": torch.tensor([1e300], dtype=torch.float64),
    "brain": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16),
    "count": torch.tensor([7, -8]),
    "small": torch.tensor([1, 255], dtype=torch.uint8),
    "yes": torch.tensor([True, False]),
}


def write(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype | None = None) -> None:
    write_checkpoint(path, tensors, dtype)


def header_of(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_the_library_reads_a_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "weights.safetensors", TENSORS)
    found = load_file(tmp_path / "weights.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_checkpoint_is_the_one_the_library_writes(tmp_path: Path) -> None:
    tensors = {f"t{index}": torch.randn(index + 1, 3) for index in range(4)}
    write(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    assert header_of(tmp_path / "ours") == header_of(tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes()[-120:] == (tmp_path / "theirs").read_bytes()[-120:]


def test_every_tensor_of_a_checkpoint_is_aligned_to_its_type(tmp_path: Path) -> None:
    write(tmp_path / "weights", TENSORS)
    size = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}
    start = 8 + int.from_bytes((tmp_path / "weights").read_bytes()[:8], "little")
    assert start % 8 == 0
    for entry in header_of(tmp_path / "weights").values():
        assert entry["data_offsets"][0] % size[entry["dtype"]] == 0


def test_values_of_a_checkpoint_are_cast_and_integers_are_not(tmp_path: Path) -> None:
    write(tmp_path / "weights", TENSORS, torch.bfloat16)
    found = load_file(tmp_path / "weights")
    assert found["b.weight"].dtype == found["double"].dtype == found["a.half"].dtype == torch.bfloat16
    assert torch.equal(found["b.weight"], TENSORS["b.weight"].to(torch.bfloat16))
    assert (found["count"].dtype, found["yes"].dtype) == (torch.int64, torch.bool)


@pytest.mark.parametrize("parts", [[b"abc", memoryview(b"de"), b"", b"f" * 100], []])
def test_parts_are_packed_into_one_tensor_of_bytes(parts: list, tmp_path: Path) -> None:
    write_packed(tmp_path / "packed", iter(parts))
    [(name, found)] = load_file(tmp_path / "packed").items()
    content = b"".join(bytes(part) for part in parts)
    assert name == "data"
    assert bytes(found.tolist()) == content
    assert (tmp_path / "packed").stat().st_size == 8 + 88 + len(content)


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("precious")
    for write_file in (lambda path: write(path, TENSORS), lambda path: write_packed(path, [b"x"])):
        with pytest.raises(FileExistsError):
            write_file(tmp_path / "weights")
    assert (tmp_path / "weights").read_text() == "precious"
