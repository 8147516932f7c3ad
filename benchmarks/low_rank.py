"""Low rank on ViT-B/32 shapes: time and truncation error against torch.linalg.svd and against SVD-LLM's way.

    python benchmarks/low_rank.py
    python benchmarks/low_rank.py --threads 1 --repeats 9
    python benchmarks/low_rank.py --quick --output build

One matrix of every shape is factorised by every method in turn, several times; the median of each counts as often as
the shape occurs. The weights are random with singular values i^-½, the inputs random with the same spectrum and, in
half of the whitened rows, features that are large throughout, as real activations have. All in float32 unless said.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rcc.ops.factorise import factor_pair, thin_svd
from rcc.ops.quadratic import Quadratic
from rcc.ops.sparse_low_rank import sparse_plus_low_rank
from rcc.ops.whitened import whitened

RESULTS = Path(__file__).resolve().parent / "results"
VISION = {(768, 768): 48, (3072, 768): 12, (768, 3072): 12}
TEXT = {(512, 512): 48, (2048, 512): 12, (512, 2048): 12}
PROJECTIONS = {(512, 768): 1, (512, 512): 1}
LARGE_FEATURES = {"correlated inputs": 0.0, "correlated inputs, two large features": 30.0}
"""Kinds of inputs, and the mean of their largest feature as a multiple of the spread of the others."""

Pair = tuple[Tensor, Tensor]
Method = Callable[[], Pair]


class Row(NamedTuple):
    """A method's seconds for all matrices, by the clock and of processor time, and its largest excess error."""

    method: str
    seconds: float
    processor: float
    excess: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="an eighth of every width: checks the program, not the speed"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    vision, every = scaled(options.quick, VISION), scaled(options.quick, VISION, TEXT, PROJECTIONS)
    tables: dict[str, list[Row]] = {}
    for name, rank_of in {"rank ½ of the least side": half, "rank of ¼ of the parameters": quarter}.items():
        tables[f"All {sum(every.values())} matrices, {name}"] = plain(every, rank_of, options.repeats, generator)
    for kind, size in LARGE_FEATURES.items():
        title = f"Whitened, {sum(vision.values())} matrices of the vision tower, rank of ¼ of the parameters, {kind}"
        tables[title] = in_the_metric(vision, size, options.repeats, generator)
    result = {
        "machine": machine(options),
        "tables": {title: [row._asdict() for row in tables[title]] for title in tables},
    }
    shape = next(iter(vision))
    result["sparse plus low rank"] = sparse(shape, generator)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "low_rank.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    text = report(result, tables, shape)
    (options.output / "low_rank.md").write_text(text, encoding="utf-8")
    print(text)


def scaled(quick: bool, *parts: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """How often each shape occurs in all `parts`."""
    counts: dict[tuple[int, int], int] = {}
    for part in parts:
        for (out, inputs), count in part.items():
            shape = (out // 8, inputs // 8) if quick else (out, inputs)
            counts[shape] = counts.get(shape, 0) + count
    return counts


def half(shape: tuple[int, int]) -> int:
    return min(shape) // 2


def quarter(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1] // (4 * sum(shape))


def power_law(out: int, inputs: int, generator: torch.Generator) -> Tensor:
    """A matrix (out, in) with random singular vectors and the values i^-½."""
    size = min(out, inputs)
    left = torch.linalg.qr(torch.randn(out, size, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(inputs, size, generator=generator)).Q
    return (left * torch.arange(1, size + 1).rsqrt()) @ right.T


def second_moment(inputs: int, large: float, generator: torch.Generator) -> Tensor:
    """H (in, in), damped, of four times as many random inputs with a power-law spectrum and two large features."""
    rows = torch.randn(4 * inputs, inputs, generator=generator) @ power_law(inputs, inputs, generator)
    rows[:, :2] += rows.std() * torch.tensor([large, large / 2])
    moment = rows.T @ rows / len(rows)
    moment.diagonal().add_(0.01 * moment.diagonal().mean())
    return moment


def plain(
    counts: dict[tuple[int, int], int],
    rank_of: Callable[[tuple[int, int]], int],
    repeats: int,
    generator: torch.Generator,
) -> list[Row]:
    """Plain truncation: two factors of the weight, nearest in the Frobenius norm."""
    cases = []
    for shape, count in counts.items():
        weight, rank = power_law(*shape, generator), rank_of(shape)
        least = float(torch.linalg.svdvals(weight.double())[rank:].square().sum())
        cases.append((count, methods_plain(weight, rank), error_plain(weight, least)))
    return measured(cases, repeats)


def methods_plain(weight: Tensor, rank: int) -> dict[str, Method]:
    wide = weight.shape[0] <= weight.shape[1]

    def svd() -> Pair:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        return (left[:, :rank] * values[:rank]).contiguous(), right[:rank].contiguous()

    def svd_of_the_tall() -> Pair:
        if not wide:
            return svd()
        left, values, right = torch.linalg.svd(weight.T, full_matrices=False)
        return (right[:rank].T * values[:rank]).contiguous(), left[:, :rank].T.contiguous()

    return {
        "torch.linalg.svd": svd,
        "torch.linalg.svd of the transpose where that is tall": svd_of_the_tall,
        "thin_svd, float64": lambda: factor_pair(thin_svd(weight), rank),
    }


def error_plain(weight: Tensor, least: float) -> Callable[[Pair], float]:
    exact = weight.double()
    return lambda pair: float((exact - pair[0].double() @ pair[1].double()).square().sum()) / least - 1


def in_the_metric(
    counts: dict[tuple[int, int], int], large: float, repeats: int, generator: torch.Generator
) -> list[Row]:
    """Whitened truncation: two factors whose outputs are nearest, from a weight and a damped second moment."""
    cases = []
    for shape, count in counts.items():
        weight, moment = power_law(*shape, generator), second_moment(shape[1], large, generator)
        exact = Quadratic.around(weight.double(), moment.double())
        values = torch.linalg.svdvals(exact.cholesky.T @ weight.double().T)
        least = float(values[quarter(shape) :].square().sum())
        cases.append((count, methods_whitened(weight, moment, quarter(shape)), error_whitened(exact, least)))
    return measured(cases, repeats)


def methods_whitened(weight: Tensor, moment: Tensor, rank: int) -> dict[str, Method]:
    def published() -> Pair:
        root = torch.linalg.cholesky(moment)
        left, values, right = torch.linalg.svd(weight @ root, full_matrices=False)
        scale = values[:rank].sqrt()
        return left[:, :rank] * scale, scale[:, None] * right[:rank] @ torch.linalg.inv(root)

    return {
        "Cholesky factor, SVD, inverse (SVD-LLM)": published,
        "whitened": lambda: whitened(Quadratic.around(weight, moment), weight).pair(rank),
        "whitened, float64": lambda: whitened(Quadratic.around(weight.double(), moment.double()), weight.double()).pair(
            rank
        ),
    }


def error_whitened(exact: Quadratic, least: float) -> Callable[[Pair], float]:
    return lambda pair: float(exact.error(pair[0].double() @ pair[1].double()).sum()) / least - 1


def measured(cases: list[tuple[int, dict[str, Method], Callable[[Pair], float]]], repeats: int) -> list[Row]:
    """Median seconds of every method summed over shapes, as often as each occurs; methods take turns."""
    rows: dict[str, Row] = {}
    for count, methods, error in cases:
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        excess: dict[str, float] = {}
        for repeat in range(repeats + 1):
            for name, method in methods.items():
                started = time.perf_counter(), time.process_time()
                pair = method()
                ended = time.perf_counter(), time.process_time()
                if repeat:  # the first touches fresh pages and warms the caches
                    times[name].append((ended[0] - started[0], ended[1] - started[1]))
                else:
                    excess[name] = error(pair)
        for name, each in times.items():
            before = rows.get(name, Row(name, 0.0, 0.0, 0.0))
            clock, processor = (count * statistics.median(values) for values in zip(*each, strict=True))
            worst = max(before.excess, excess[name])
            rows[name] = Row(name, before.seconds + clock, before.processor + processor, worst)
    return list(rows.values())


def sparse(shape: tuple[int, int], generator: torch.Generator) -> dict[str, float]:
    """Relative output error at a quarter of the parameters, half of them in the low-rank part."""
    weight, moment = power_law(*shape, generator), second_moment(shape[1], 0.0, generator)
    outliers = torch.rand(shape, generator=generator) < 0.02
    weight += 6 * weight.std() * torch.randn(shape, generator=generator) * outliers
    problem = Quadratic.around(weight, moment)
    energy = float(problem.energy.sum())
    errors = {"low rank alone": whitened(problem, weight).error(quarter(shape)) / energy}
    for metric in ("diagonal", "full"):
        parts = sparse_plus_low_rank(problem, quarter(shape) // 2, weight.numel() // 8, 10, metric)
        errors[f"sparse plus low rank, {metric} metric"] = problem.relative_error(parts[0] + parts[1] @ parts[2])
    return errors


def machine(options: argparse.Namespace) -> dict[str, object]:
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    asked = {"threads": options.threads, "repeats": options.repeats, "quick": options.quick}
    return {"platform": platform.platform(), "processors": os.cpu_count(), **versions, **asked}


def report(result: dict[str, object], tables: dict[str, list[Row]], shape: tuple[int, int]) -> str:
    """All tables in Markdown; ratios are of the first method of each, the peer."""
    facts = machine_line(result["machine"])
    lines = [facts, ""]
    for title, rows in tables.items():
        lines += [f"**{title}**", "", "| method | seconds | × faster | processor s | × less | excess error |"]
        lines.append("| :-- | --: | --: | --: | --: | --: |")
        for row in rows:
            error = f"{max(row.excess, 0):.0e}"
            clock = f"{row.seconds:.2f} | {rows[0].seconds / row.seconds:.2f}"
            processor = f"{row.processor:.2f} | {rows[0].processor / row.processor:.2f}"
            lines.append(f"| {row.method} | {clock} | {processor} | {error} |")
        lines.append("")
    lines += [
        f"**Relative output error of one {shape[0]} × {shape[1]} matrix with 2 % outliers, ¼ of the parameters**",
        "",
    ]
    errors = result["sparse plus low rank"]
    assert isinstance(errors, dict)
    lines += [
        "| way | E‖y − V x‖² / E‖y‖² |",
        "| :-- | --: |",
        *(f"| {way} | {error:.4f} |" for way, error in errors.items()),
    ]
    return "\n".join([*lines, ""])


def machine_line(facts: object) -> str:
    assert isinstance(facts, dict)
    return (
        f"{facts['processors']} processors, {facts['threads']} threads, torch {facts['torch']}; medians of "
        f"{facts['repeats']} interleaved repeats. Excess error: how far the squared error is above the least possible "
        "at that rank, relative, in float64."
    )


if __name__ == "__main__":
    main()
