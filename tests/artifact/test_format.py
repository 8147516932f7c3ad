"""A second reader, written from docs/artifact-format.md with NumPy, zstandard and the standard library alone."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from toys.adapters import compress, dense_toy, quantise

from rcc.artifact.write import write_artifact
from rcc.layers.grid import multiples, powers

NUMPY = {"float32": "<f4", "float16": "<f2", "int64": "<i8", "int8*step": "<i1", "int8": "<i1"}


def expand(part: bytes, length: int) -> bytes:
    if len(part) == length:
        return part
    raw = zstandard.ZstdDecompressor().decompress(b"\x28\xb5\x2f\xfd" + part, max_output_size=length)
    assert len(raw) == length
    return raw


def values_of(parts: list[bytes], count: int, dtype: str) -> np.ndarray:
    width = np.dtype(NUMPY[dtype]).itemsize
    if len(parts) == 1:
        return np.frombuffer(expand(parts[0], count * width), NUMPY[dtype])
    planes = [np.frombuffer(expand(part, count), np.uint8) for part in parts]
    return np.frombuffer(np.stack(planes, axis=1).tobytes(), NUMPY[dtype])


def digits(part: bytes, count: int, least: int, largest: int, zero: bool) -> np.ndarray:
    numbers = [number for number in range(least, largest + 1) if number or zero]
    base = len(numbers)
    if base == 1:
        return np.full(count, numbers[0], np.int8)
    each = max(m for m in range(1, 9) if base**m <= 256)
    found = []
    for byte in expand(part, -(-count // each)):
        found += [numbers[byte // base**place % base] for place in reversed(range(each))]
    return np.array(found[:count], np.int8)


def unsigned(most: int) -> str:
    return "<u1" if most < 2**8 else "<u2" if most < 2**16 else "<u4"


def places(encoding: str, shape: list[int], nonzeros: int, escapes: int, parts: list[bytes]) -> np.ndarray:
    count, columns = math.prod(shape), math.prod(shape[1:])
    if encoding == "bitmask":
        mask = np.frombuffer(expand(parts.pop(0), -(-count // 8)), np.uint8)
        return np.flatnonzero(np.unpackbits(mask, count=count))
    if encoding == "gaps":
        gaps = np.frombuffer(expand(parts.pop(0), nonzeros + escapes), np.uint8)
        found, position = [], 0
        for gap in gaps.tolist():
            position += gap
            if gap < 255:
                found.append(position)
                position += 1
        return np.array(found, int)
    counted, indexed = np.dtype(unsigned(columns)), np.dtype(unsigned(columns - 1))
    counts = np.frombuffer(expand(parts.pop(0), shape[0] * counted.itemsize), counted)
    column = np.frombuffer(expand(parts.pop(0), nonzeros * indexed.itemsize), indexed)
    return np.repeat(np.arange(shape[0]), counts) * columns + column


MANTISSAS = [2 ** (i / 8) for i in range(8)]


def vector(word: str, whole: np.ndarray | None, count: int, dtype: str) -> np.ndarray:
    """A vector of which the manifest holds a word."""
    if word[0] == "=":
        value = int(word[1:], 16).to_bytes(np.dtype(NUMPY[dtype]).itemsize, "little")
        return np.frombuffer(value * count, NUMPY[dtype])
    assert whole is not None
    if word[0] == "^":
        exponents = [int(k) + int(word[1:]) for k in whole]
        return np.array([math.ldexp(MANTISSAS[k % 8], k // 8) for k in exponents]).astype(NUMPY[dtype])
    digit, octave = map(int, word[1:].split("p"))
    return (whole.astype(np.float64) * math.ldexp(digit, octave)).astype(NUMPY[dtype])


def read(directory: Path) -> dict[str, np.ndarray]:
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    content = (directory / "weights.safetensors").read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    (header,) = json.loads(content[8:data]).items()
    assert header == ("data", {"dtype": "U8", "shape": [len(content) - data], "data_offsets": [0, len(content) - data]})

    def take(lengths: str, sha256: str) -> list[bytes]:
        nonlocal data
        parts = []
        for length in map(int, lengths.split("+")):
            parts.append(content[data : data + length])
            data += length
        assert hashlib.sha256(b"".join(parts)).hexdigest()[:12] == sha256
        return parts

    vectors: dict[str, dict[str, tuple[list[int], str, str]]] = {}
    matrices: dict[str, list[str]] = {}
    for module, attributes in manifest["modules"].items():
        for attribute, line in attributes.items():
            name = f"{module}.{attribute}" if module else attribute
            shape, *rest = line.split()
            sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
            if len(sizes) < 2:
                word = rest.pop() if rest and rest[-1][0] in "=^*" else ""
                dtype = rest[0] if rest else manifest["dtype"]
                stream = {"": dtype, "=": "", "^": "powers", "*": "multiples"}[word[:1]]
                vectors.setdefault(stream, {})[name] = (sizes, dtype, word)
            else:
                matrices[name] = line.split()
    tensors = {}
    for name, (sizes, dtype, word) in vectors.pop("", {}).items():
        tensors[name] = vector(word, None, math.prod(sizes), dtype).reshape(sizes)
    for stream in sorted(vectors):
        names = sorted(vectors[stream], key=lambda name: (name.rpartition(".")[2], name.rpartition(".")[0]))
        counts = [math.prod(vectors[stream][name][0]) for name in names]
        kind = "int8" if stream in ("powers", "multiples") else stream
        values = values_of(take(*manifest["vectors"][stream].split()), sum(counts), kind)
        for name, piece in zip(names, np.split(values, np.cumsum(counts)[:-1]), strict=True):
            sizes, dtype, word = vectors[stream][name]
            tensors[name] = (vector(word, piece, len(piece), dtype) if word else piece).reshape(sizes)
    whole = {}
    for name in sorted(matrices):
        shape_text, *words = matrices[name]
        shape = [int(size) for size in shape_text.split("x")]
        dtype = words.pop(0) if words[0] in NUMPY else manifest["dtype"]
        encoding, *words = words
        parts = take(*words[-2:])
        span = [int(number) for number in words[-3].split(":")] if ":" in "".join(words) else []

        def values(
            parts: list[bytes], count: int, zero: bool, dtype: str = dtype, span: list[int] = span
        ) -> np.ndarray:
            return digits(parts[0], count, *span, zero) if span else values_of(parts, count, dtype)

        if encoding == "dense":
            tensor = values(parts, math.prod(shape), True)
        else:
            nonzeros, _, escapes = words[0].partition("~")
            found = places(encoding, shape, int(nonzeros), int(escapes or 0), parts)
            tensor = np.zeros(math.prod(shape), NUMPY[dtype])
            tensor[found] = values(parts, int(nonzeros), False)
        tensors[name] = tensor.reshape(shape)
        if dtype == "int8*step":
            whole[name] = tensors[name]
    for name, q in whole.items():
        tensors[name] = q.astype(np.float32) * tensors[f"{name}_step"].astype(np.float32)[:, None]
    assert data == len(content)
    return tensors | {alias: tensors[name] for alias, name in manifest["tied"].items()}


@pytest.mark.parametrize("entropy", ["zstd", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_documented_format_is_the_written_one(dtype: str, entropy: str, tmp_path: Path) -> None:
    toy = quantise(compress(dense_toy()), "image", "words")
    write_artifact(toy, tmp_path / "artifact", dtype=dtype, entropy=entropy)
    found, expected = read(tmp_path / "artifact"), toy.module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        narrow = tensor.is_floating_point() and f"{name}_step" not in expected
        stored = tensor.to(getattr(torch, dtype)) if narrow else tensor
        np.testing.assert_array_equal(found[name], stored.numpy())


def test_the_documented_formula_is_the_weight(tmp_path: Path) -> None:
    toy = compress(dense_toy())
    write_artifact(toy, tmp_path / "artifact")
    stored = read(tmp_path / "artifact")
    S, U, V, a = (stored[f"up.{part}"].astype(np.float64) for part in ("sparse", "left", "right", "scale"))
    np.testing.assert_allclose(np.diag(a) @ (S + U @ V), toy.module.up.weight.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("encoding", ["dense", "bitmask", "gaps", "csr"])
@pytest.mark.parametrize("entropy", ["zstd", "none"])
def test_every_documented_encoding_is_the_written_one(encoding: str, entropy: str, tmp_path: Path) -> None:
    toy = dense_toy()
    toy.module.words = torch.nn.Embedding(4, 60_000)
    weight = torch.zeros(4, 60_000)
    if encoding == "csr":
        weight[:, 50_000:50_003] = torch.randn(4, 3)
    else:
        share = {"dense": 1.1, "bitmask": 0.7, "gaps": 0.03}[encoding]
        weight = torch.randn(4, 60_000).masked_fill(torch.rand(4, 60_000) >= share, 0.0)
    toy.module.words.weight.data = weight
    write_artifact(toy, tmp_path / "artifact", entropy=entropy)
    line = json.loads((tmp_path / "artifact/manifest.json").read_text())["modules"]["words"]["weight"]
    assert f" {encoding} " in line
    np.testing.assert_array_equal(read(tmp_path / "artifact")["words.weight"], weight.numpy())


@pytest.mark.parametrize("entropy", ["zstd", "none"])
@pytest.mark.parametrize(("levels", "zeros"), [(1, 0.0), (1, 0.97), (2, 0.6), (3, 0.0), (7, 0.2), (7, 0.9), (127, 0.0)])
def test_the_documented_digits_are_the_written_ones(levels: int, zeros: float, entropy: str, tmp_path: Path) -> None:
    toy = quantise(dense_toy(), "words")
    table = toy.module.words
    draw = np.random.default_rng(0)
    whole = draw.integers(-levels, levels + 1, table.sparse.shape)
    whole[draw.random(whole.shape) < zeros] = 0
    table.sparse.data = torch.from_numpy(whole).float() * table.sparse_step[:, None]
    write_artifact(toy, tmp_path / "artifact", entropy=entropy)
    np.testing.assert_array_equal(read(tmp_path / "artifact")["words.sparse"], table.sparse.detach().numpy())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_documented_words_of_vectors_are_the_written_ones(dtype: str, tmp_path: Path) -> None:
    toy, kept = dense_toy(), getattr(torch, dtype)
    toy.module.norm.bias.data = torch.full((16,), -0.5)
    toy.module.norm.weight.data = powers(torch.arange(16) * 5 - 40, kept).float()
    toy.module.up.bias.data = multiples(torch.arange(16) * 16 - 127, (9, -12), kept).float()
    write_artifact(toy, tmp_path / "artifact", dtype=dtype)
    modules = json.loads((tmp_path / "artifact/manifest.json").read_text())["modules"]
    assert modules["norm"] == {"bias": "16 =b800" if dtype == "float16" else "16 =bf000000", "weight": "16 ^-5"}
    assert modules["up"]["bias"] == "16 *9p-12"
    found = read(tmp_path / "artifact")
    for name in ("norm.bias", "norm.weight", "up.bias"):
        np.testing.assert_array_equal(found[name], toy.module.state_dict()[name].to(kept).numpy())
