"""A second reader, written from docs/artifact-format.md with NumPy and the standard library alone."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_model import compress, dense_toy

from rcc.artifact.write import write_artifact

NUMPY = {"float32": "<f4", "float16": "<f2", "int64": "<i8"}


def read(directory: Path) -> dict[str, np.ndarray]:
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    content = (directory / "weights.safetensors").read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])

    def raw(key: str) -> bytes:
        begin, end = header.pop(key)["data_offsets"]
        return content[data + begin : data + end]

    tensors = {}
    for name, entry in manifest["tensors"].items():
        count, dtype = math.prod(entry["shape"]), NUMPY[entry["dtype"]]
        if entry["encoding"] == "dense":
            stored = raw(name)
            tensor = np.frombuffer(stored, dtype)
        else:
            mask, values = raw(f"{name}.mask"), raw(f"{name}.values")
            stored = mask + values
            present = np.unpackbits(np.frombuffer(mask, np.uint8), count=count).astype(bool)
            tensor = np.zeros(count, dtype)
            tensor[present] = np.frombuffer(values, dtype)
            assert int(present.sum()) == entry["nonzeros"]
        assert hashlib.sha256(stored).hexdigest() == entry["sha256"]
        tensors[name] = tensor.reshape(entry["shape"])
    assert not header
    return tensors | {alias: tensors[name] for alias, name in manifest["tied"].items()}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_documented_format_is_the_written_one(dtype: str, tmp_path: Path) -> None:
    toy = compress(dense_toy())
    write_artifact(toy, tmp_path / "artifact", dtype=dtype)
    found, expected = read(tmp_path / "artifact"), toy.module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        stored = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        np.testing.assert_array_equal(found[name], stored.numpy())


def test_the_documented_formula_is_the_weight(tmp_path: Path) -> None:
    toy = compress(dense_toy())
    write_artifact(toy, tmp_path / "artifact")
    stored = read(tmp_path / "artifact")
    S, U, V, a = (stored[f"up.{part}"].astype(np.float64) for part in ("sparse", "left", "right", "scale"))
    np.testing.assert_allclose(np.diag(a) @ (S + U @ V), toy.module.up.weight.detach().numpy(), atol=1e-6)
