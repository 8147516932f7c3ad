"""Measures the error of each closed-form solver on the real layers of the embedded CLIP.

    OMP_NUM_THREADS=1 python benchmarks/solver_error.py
    OMP_NUM_THREADS=1 python benchmarks/solver_error.py --sparsity 0.9

Each linear layer is given its own inputs over the calibration split and has its own outputs as target. What is
reported is E‖W x − V x‖² / E‖W x‖² (damping included), the geometric mean over the layers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from rcc.data.registry import load_data
from rcc.models.registry import load_model
from rcc.ops.admm import admm_prune
from rcc.ops.grid import quantise, round_to_grid, row_steps
from rcc.ops.obs import obs_prune
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit
from rcc.ops.select import select_smallest

Solver = Callable[[Quadratic, int, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sparsity", type=float, action="append", help="share of zeros; repeatable")
    options = parser.parse_args()
    sparsities = options.sparsity or [0.5, 0.8, 0.9, 0.95]
    layers = [(weight, Quadratic.around(weight, moment).damped(weight)) for weight, moment in real_layers()]
    print(
        f"| {len(layers)} layers, share of zeros | " + " | ".join(f"{sparsity:.0%}" for sparsity in sparsities) + " |"
    )
    print("|---" * (len(sparsities) + 1) + "|")
    for name, solve in SOLVERS.items():
        means = []
        for sparsity in sparsities:
            keeps = [round((1 - sparsity) * weight.numel()) for weight, _ in layers]
            errors = [
                problem.relative_error(solve(problem, keep, weight))
                for keep, (weight, problem) in zip(keeps, layers, strict=True)
            ]
            means.append(math.exp(sum(math.log(error) for error in errors) / len(errors)))
        print(f"| {name} | " + " | ".join(f"{mean:.2g}" for mean in means) + " |", flush=True)


def largest(score: Tensor, keep: int) -> Tensor:
    return ~next(select_smallest([score], score.numel() - keep))


def activation(problem: Quadratic, keep: int, weight: Tensor) -> Tensor:
    return weight * largest(weight * problem.moment.diagonal().sqrt(), keep)


def admm(iterations: int, growing: int | None = None, scope: str = "layer") -> Solver:
    return lambda problem, keep, weight: admm_prune(
        problem, keep, weight, iterations=iterations, growing=growing or iterations, scope=scope
    )


def refitted(solve: Solver, iterations: int) -> Solver:
    def run(problem: Quadratic, keep: int, weight: Tensor) -> Tensor:
        values = solve(problem, keep, weight)
        return refit(problem, values != 0, values, iterations=iterations)

    return run


def rounded(levels: int, feedback: bool) -> Solver:
    """The best pruning here, then its values on a grid."""

    def run(problem: Quadratic, keep: int, weight: Tensor) -> Tensor:
        values = refitted(admm(15), 6)(problem, keep, weight)
        steps = row_steps(values, levels, clip="mse")
        return quantise(problem, values, steps, levels) if feedback else round_to_grid(values, steps, levels)

    return run


SOLVERS: dict[str, Solver] = {
    "largest \\|w\\|": lambda problem, keep, weight: weight * largest(weight, keep),
    "largest \\|w\\| ‖x‖": activation,
    "the same, `refit(15)`": refitted(activation, 15),
    "`obs_prune`, blocks of 128": lambda problem, keep, weight: obs_prune(problem, keep, block=128),
    "`obs_prune`": lambda problem, keep, weight: obs_prune(problem, keep),
    "`obs_prune`, `refit(6)`": refitted(lambda problem, keep, weight: obs_prune(problem, keep), 6),
    "`admm_prune` 6/6": admm(6),
    "`admm_prune` 6/6, `refit(6)`": refitted(admm(6), 6),
    "`admm_prune` 20/15": admm(20, 15),
    "`admm_prune` 15/15, `refit(6)`": refitted(admm(15), 6),
    "the same, rows": refitted(admm(15, scope="row"), 6),
    "`admm_prune` 30/30, `refit(6)`": refitted(admm(30), 6),
    "15/15 and 6, int8, plain": rounded(127, feedback=False),
    "15/15 and 6, int8, `quantise`": rounded(127, feedback=True),
    "15/15 and 6, 4 bits, plain": rounded(7, feedback=False),
    "15/15 and 6, 4 bits, `quantise`": rounded(7, feedback=True),
}


@torch.no_grad()
def real_layers() -> list[tuple[Tensor, Tensor]]:
    """The weight (out, in) and E[x xᵀ] (in, in) of every linear layer, in float32."""
    adapter, split = load_model("clip_tiny", device="cpu"), load_data("digits").calibration
    batch = adapter.prepare(list(split.images), split.texts)
    words = batch["attention_mask"].bool()
    layers = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], text: bool) -> None:
        x = inputs[0]
        x = (x[words] if text and x.dim() == 3 else x.flatten(0, -2)).double()
        assert isinstance(module.weight, Tensor)
        layers.append((module.weight.detach().float(), (x.T @ x / len(x)).float()))

    hooks = [
        module.register_forward_pre_hook(partial(note, text=name.startswith("text")))
        for name, module in adapter.clip_model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    adapter.outputs(batch)
    for hook in hooks:
        hook.remove()
    return layers


if __name__ == "__main__":
    main()
