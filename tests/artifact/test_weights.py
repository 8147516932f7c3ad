from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from rcc.artifact.weights import plan_tensor, write_weights
from rcc.layers.encoding import encode

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


def write(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype | None = None, dense: bool = False) -> dict:
    plans = {name: plan_tensor(tensor, dtype, dense) for name, tensor in tensors.items()}
    return write_weights(path, tensors, plans, dtype)


def header_of(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    write(tmp_path / "weights.safetensors", TENSORS, dense=True)
    found = load_file(tmp_path / "weights.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_data_section_is_the_one_the_library_writes(tmp_path: Path) -> None:
    tensors = {f"t{index}": torch.randn(index + 1, 3) for index in range(4)}
    write(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    assert header_of(tmp_path / "ours") == header_of(tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes()[-120:] == (tmp_path / "theirs").read_bytes()[-120:]


def test_the_same_tensors_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", TENSORS)
    write(tmp_path / "two", dict(reversed(TENSORS.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_part_is_aligned_to_its_type(tmp_path: Path) -> None:
    sparse = torch.zeros(64)
    sparse[5] = 1.0
    write(tmp_path / "weights", {**TENSORS, "sparse": sparse, "sparse_half": sparse.half()})
    size = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}
    start = 8 + int.from_bytes((tmp_path / "weights").read_bytes()[:8], "little")
    assert start % 8 == 0
    for entry in header_of(tmp_path / "weights").values():
        assert entry["data_offsets"][0] % size[entry["dtype"]] == 0


def test_a_sparse_tensor_is_its_mask_and_its_values(tmp_path: Path) -> None:
    tensor = torch.zeros(5, 8)
    tensor[0, 1], tensor[4, 7] = 3.0, -1.0
    entries = write(tmp_path / "weights", {"w": tensor})
    found = load_file(tmp_path / "weights")
    assert found["w.mask"].tolist() == [0b0100_0000, 0, 0, 0, 1]
    assert found["w.values"].tolist() == [3.0, -1.0]
    raw = bytes(found["w.mask"].tolist()) + found["w.values"].numpy().tobytes()
    assert entries["w"].sha256 == hashlib.sha256(raw).hexdigest()
    assert (entries["w"].encoding, entries["w"].nonzeros, entries["w"].shape) == ("bitmask", 2, (5, 8))


def test_values_are_cast_and_integers_are_not(tmp_path: Path) -> None:
    write(tmp_path / "weights", TENSORS, torch.bfloat16, dense=True)
    found = load_file(tmp_path / "weights")
    assert found["b.weight"].dtype == found["double"].dtype == found["a.half"].dtype == torch.bfloat16
    assert torch.equal(found["b.weight"], TENSORS["b.weight"].to(torch.bfloat16))
    assert (found["count"].dtype, found["yes"].dtype) == (torch.int64, torch.bool)


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([None, torch.float16, torch.bfloat16, torch.float32]),
)
def test_the_plan_is_what_encode_does(numel: int, zeros: int, dtype: torch.dtype, target: torch.dtype | None) -> None:
    tensor = torch.linspace(1, 2, numel, dtype=dtype)
    tensor[:zeros] = 0.0
    plan = plan_tensor(tensor, target)
    encoded = encode(tensor if target is None else tensor.to(target))
    assert (plan.encoding, plan.nbytes, plan.dtype) == (encoded.encoding, encoded.nbytes, encoded.dtype)
    assert plan.nonzeros == max(0, numel - zeros)


def test_on_the_meta_device_every_value_counts() -> None:
    plan = plan_tensor(torch.empty(3, 5, device="meta"), torch.float16)
    assert (plan.encoding, plan.nbytes, plan.nonzeros) == ("dense", 30, 15)


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("precious")
    with pytest.raises(FileExistsError):
        write(tmp_path / "weights", TENSORS)
