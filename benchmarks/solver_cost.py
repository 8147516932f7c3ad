"""Measures what each closed-form solver costs and errs on the shapes of ViT-B/32's MLP, in products V @ H.

    OMP_NUM_THREADS=1 python benchmarks/solver_cost.py
    OMP_NUM_THREADS=1 python benchmarks/solver_cost.py --shape 768x768 --sparsity 0.5

Weights are random; inputs have eigenvalues that fall as i^-1 and features of different sizes. So times and the order
of errors mean something, errors by themselves do not. Solvers take turns; times are medians of the process's CPU
time. Factors of H that an objective keeps (its Cholesky factor, its dense minimum) are counted where first used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from rcc.ops.admm import admm_prune
from rcc.ops.grid import quantise, round_to_grid, row_steps
from rcc.ops.obs import obs_prune
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit, refit_exact
from rcc.ops.select import select_smallest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", action="append", help="out x in, as 768x3072; repeatable")
    parser.add_argument("--sparsity", type=float, default=0.9, help="share of zeros")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median is reported")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {options.sparsity:.0%} zeros\n")
    for shape in options.shape or ["768x3072", "3072x768"]:
        out, width = (int(side) for side in shape.split("x"))
        report(out, width, options.sparsity, options.repeats)


def report(out: int, width: int, sparsity: float, repeats: int) -> None:
    weight, moment = layer(out, width)
    keep = round((1 - sparsity) * weight.numel())
    problem = Quadratic.around(weight, moment).damped(weight)
    score = weight * moment.diagonal().sqrt()
    support = ~next(select_smallest([score], weight.numel() - keep))
    sparse = refit(problem, support, weight)
    left = torch.randn(2 * out, out, generator=torch.Generator().manual_seed(2)) / (2 * out) ** 0.5
    coupling = left.T @ left
    coupled = Quadratic(problem.moment, coupling @ problem.cross, problem.energy)

    def admm(iterations: int, refits: int) -> Tensor:
        values = admm_prune(problem, keep, weight, iterations=iterations, growing=iterations)
        return refit(problem, values != 0, values, iterations=refits) if refits else values

    def obs(refits: int) -> Tensor:
        # An objective of its own: the factor it keeps is part of the cost.
        values = obs_prune(Quadratic(problem.moment, problem.cross, problem.energy), keep)
        return refit(problem, values != 0, values, iterations=refits) if refits else values

    steps, fine = row_steps(sparse), row_steps(sparse, 7, clip="mse")
    solvers: dict[str, Callable[[], Tensor | None]] = {
        "V @ H": lambda: (weight @ moment, None)[1],
        "largest |w| ‖x‖": lambda: weight * support,
        "the same, refit(15)": lambda: refit(problem, support, weight),
        "the same, refit_exact": lambda: refit_exact(problem, support),
        "obs_prune": lambda: obs(0),
        "obs_prune, refit(6)": lambda: obs(6),
        "admm_prune(6), refit(6)": lambda: admm(6, 6),
        "admm_prune(15)": lambda: admm(15, 0),
        "admm_prune(15), refit(6)": lambda: admm(15, 6),
        "admm_prune(15), rows": lambda: admm_prune(problem, keep, weight, iterations=15, scope="row"),
        "admm_prune(15), coupled": lambda: (admm_prune(coupled, keep, weight, coupling, iterations=15), None)[1],
        "int8 of the refit: row_steps, round_to_grid": lambda: round_to_grid(sparse, row_steps(sparse)),
        "int8 of the refit: quantise": lambda: quantise(problem, sparse, steps),
        "4 bits of the refit: row_steps(mse), round_to_grid": lambda: round_to_grid(
            sparse, row_steps(sparse, 7, clip="mse"), 7
        ),
        "4 bits of the refit: quantise": lambda: quantise(problem, sparse, fine, 7),
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    errors: dict[str, float | None] = {}
    for _ in range(repeats):
        for name, solve in solvers.items():
            start = time.process_time()
            values = solve()
            seconds[name].append(time.process_time() - start)
            errors[name] = None if values is None else problem.relative_error(values)
    product = statistics.median(seconds["V @ H"])
    print(f"| {out} × {width} | CPU seconds | products V @ H | relative error |")
    print("|---|---|---|---|")
    for name, error in errors.items():
        median = statistics.median(seconds[name])
        print(f"| {name} | {median:.2f} | {median / product:.1f} | {'' if error is None else f'{error:.4f}'} |")
    print()


def layer(out: int, width: int) -> tuple[Tensor, Tensor]:
    """A weight (out, in) and a moment (in, in), the same at every call."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    moment = (basis / torch.arange(1, width + 1)) @ basis.T
    sizes = torch.rand(width, generator=generator) * 2 + 0.5
    weight = torch.randn(out, width, generator=generator)
    return weight, moment * sizes[:, None] * sizes


if __name__ == "__main__":
    main()
