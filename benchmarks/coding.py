"""Measure how near the coding of whole numbers comes to their entropy, and what reading them costs.

    OMP_NUM_THREADS=1 python benchmarks/coding.py [--artifact <directory or file of a run>] [--runs 5]

One table: matrices of an artifact, all together, where one is given, and Gaussian ones of several levels and shares of
zeros. For each way to code them: bytes, how far these lie above the empirical entropy of order 0, milliseconds to
decode, millions of values a second. `bytewise` is zstd at level 1 on a byte a value; `rans` a static table a tensor in
interleaved lanes in NumPy, to compare with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import zstandard
from torch import Tensor

from rcc.artifact.entries import Matrix
from rcc.artifact.manifest import read_manifest
from rcc.artifact.verify import stored_weights
from rcc.layers.encoding import decode, encode
from rcc.layers.estimate import coded_bytes

SYNTHETIC = ((1, 0.0), (1, 0.9), (3, 0.0), (3, 0.6), (3, 0.9), (7, 0.0), (7, 0.9), (31, 0.0), (127, 0.0))
SIZES = (64, 128, 512, 1024)
PRECISION, LOW = 14, 1 << 16
"""rANS: probabilities in 2^-14, states of 32 bits renewed by 16 at a time (Duda 2013; Giesen 2014 for the lanes)."""
VALUES_A_LANE = 2048
OUTPUT = Path(__file__).parents[1] / "build" / "benchmarks"


@dataclass(frozen=True)
class Row:
    """One way to code one set of matrices."""

    matrices: str
    way: str
    values: int
    entropy_bytes: float
    nbytes: int
    above: float
    decode_ms: float
    million_a_second: float


def entropy_bytes(whole: Tensor) -> float:
    """The empirical entropy of order 0."""
    _, counts = np.unique(whole.numpy(), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


def gaussian(levels: int, zeros: float, size: int) -> Tensor:
    """Gaussian values rounded to -levels … levels times a step a row, a share of them zeros."""
    draw = torch.Generator().manual_seed(levels)
    values = torch.randn(size, size, generator=draw)
    whole = (values / values.abs().amax(1, keepdim=True) * levels).round().to(torch.int8)
    return whole.masked_fill(torch.rand(size, size, generator=draw) < zeros, 0)


def matrices_of(artifact: Path) -> list[Tensor]:
    """The whole numbers of an artifact's quantised matrices."""
    manifest = read_manifest(artifact)
    found = []
    with stored_weights(artifact, manifest) as weights:
        for name, entry in manifest.tensors.items():
            if isinstance(entry, Matrix) and entry.stepped:
                step = weights.read(f"{name}_step", torch.float32)
                matrix = weights.read(name, torch.float32).reshape(len(step), -1)
                found.append((matrix / step[:, None]).round().to(torch.int8))
    return found


def product(entropy: str) -> Callable[[Tensor], tuple[int, Callable[[], object]]]:
    """The project's own coding: bytes, and what decodes them."""

    def code(whole: Tensor) -> tuple[int, Callable[[], object]]:
        encoded = encode(whole, entropy)
        assert torch.equal(decode(encoded), whole)
        return encoded.nbytes, lambda: decode(encoded)

    return code


def bytewise(whole: Tensor) -> tuple[int, Callable[[], object]]:
    """zstd at level 1 on a byte a value."""
    frame = zstandard.ZstdCompressor(level=1).compress(whole.numpy().tobytes())
    return len(frame), lambda: zstandard.ZstdDecompressor().decompress(frame)


def rans(whole: Tensor) -> tuple[int, Callable[[], object]]:
    """One static table, interleaved lanes; two bytes of table for each number that occurs."""
    values = whole.numpy().reshape(-1)
    numbers, symbols = np.unique(values, return_inverse=True)
    share = np.bincount(symbols) / len(symbols) * (1 << PRECISION)
    often = np.maximum(np.round(share), 1).astype(np.int64)
    often[often.argmax()] += (1 << PRECISION) - often.sum()
    begin = np.cumsum(often) - often
    lanes = max(1, len(values) // VALUES_A_LANE)
    steps = -(-len(values) // lanes)
    padded = np.zeros(lanes * steps, np.int64)
    padded[: len(values)] = symbols.reshape(-1)
    state, words = np.full(lanes, LOW, np.int64), []
    for column in padded.reshape(steps, lanes)[::-1]:
        full = state >= often[column] << (32 - PRECISION)
        words.append((state[full] & 0xFFFF).astype(np.uint16))
        state[full] >>= 16
        state = state // often[column] << PRECISION | begin[column] + state % often[column]
    stream = np.concatenate(words[::-1])
    symbol_of = np.repeat(np.arange(len(numbers)), often)

    def read() -> np.ndarray:
        x, place = state.copy(), 0
        out = np.empty((steps, lanes), np.int8)
        slots, own = np.arange(1 << PRECISION), often[symbol_of]
        offset, number = slots - begin[symbol_of], numbers[symbol_of]
        for row in out:
            slot = x & (1 << PRECISION) - 1
            row[:] = number[slot]
            x = own[slot] * (x >> PRECISION) + offset[slot]
            low = x < LOW
            count = int(np.count_nonzero(low))
            x[low] = x[low] << 16 | stream[place : place + count]
            place += count
        return out.reshape(-1)[: len(values)]

    assert np.array_equal(read(), values)
    return stream.nbytes + 4 * lanes + 2 * len(numbers), read


WAYS: dict[str, Callable[[Tensor], tuple[int, Callable[[], object]]]] = {
    "none": product("none"),
    "bytewise": bytewise,
    "zstd": product("zstd"),
    "rans": rans,
}


def measured(name: str, matrices: list[Tensor], runs: int) -> Iterator[Row]:
    """A row for each way, and one for what `coded_bytes` foretells."""
    entropy = sum(map(entropy_bytes, matrices))
    values = sum(matrix.numel() for matrix in matrices)
    for way, code in WAYS.items():
        coded = [code(matrix) for matrix in matrices]
        seconds = []
        for _ in range(runs):
            begin = perf_counter()
            for _, read in coded:
                read()
            seconds.append(perf_counter() - begin)
        nbytes, least = sum(size for size, _ in coded), min(seconds)
        yield Row(name, way, values, entropy, nbytes, nbytes / entropy - 1, 1000 * least, values / least / 1e6)
    foretold = sum(map(coded_bytes, matrices))
    yield Row(name, "foretold", values, entropy, foretold, foretold / entropy - 1, 0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--artifact", type=Path, help="an artifact whose quantised matrices are measured too")
    parser.add_argument("--runs", type=int, default=5, help="of which the fastest counts")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="of the Gaussian matrices, n × n")
    arguments = parser.parse_args()
    sets = [("the artifact's", matrices_of(arguments.artifact))] if arguments.artifact else []
    for size in arguments.sizes:
        sets += [(f"{size}², ±{n}, {z:.0%} zeros", [gaussian(n, z, size)]) for n, z in SYNTHETIC]
    head = ("matrices", "way", "bytes", "above entropy", "decode ms", "M values/s")
    lines = [f"| {' | '.join(head)} |", "| :-- | :-- | --: | --: | --: | --: |"]
    rows = []
    for name, matrices in sets:
        for row in measured(name, matrices, arguments.runs):
            rows.append(row)
            times = (f"{row.decode_ms:.2f}", f"{row.million_a_second:.0f}") if row.decode_ms else ("", "")
            cells = (name, row.way, f"{row.nbytes:,}", f"{row.above:+.1%}", *times)
            lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "coding.md").write_text("\n".join(lines) + "\n")
    (OUTPUT / "coding.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
