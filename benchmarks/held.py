"""Measures what `rcc.held` costs in a training step of a vision tower of ViT-B/32 shapes, beside a plain step.

    OMP_NUM_THREADS=1 python benchmarks/held.py
    OMP_NUM_THREADS=1 python benchmarks/held.py --batch 8 --rounds 9

For each form two towers of the same values take turns, one held and one not, so that both see the same machine; a step
is forward, backward, clipping and AdamW. Figures are medians of processor seconds. What holding costs goes by the
number of weights and a step by that times the batch, so the ratio falls as the batch grows and does not go by depth.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from rcc.layers.form import Form
from rcc.layers.grid import from_grid
from rcc.layers.units import find_units
from rcc.learning.held import held
from rcc.learning.loop import Loop
from rcc.ops.grid import row_steps

LIMIT = 0.10
"""Of a plain step: what holding may cost."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="images in a step, 50 tokens each")
    parser.add_argument("--layers", type=int, default=1, help="of the tower, which has 12")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each tower; the median is reported")
    parser.add_argument("--hidden", type=int, default=768, help="width of the tower")
    options = parser.parse_args()
    print(
        f"ViT-B/32 shapes, {options.layers} layers, {options.batch} images, torch {torch.__version__},"
        f" {torch.get_num_threads()} thread(s)\n\n"
        "| form | plain step, s | held step, s | cost |\n| :-- | --: | --: | --: |"
    )
    worst = 0.0
    for name, form_of in FORMS.items():
        plain, holding = measured(form_of, options.layers, options.batch, options.rounds, options.hidden)
        cost = holding / plain - 1
        worst = max(worst, cost)
        print(f"| {name} | {plain:.3f} | {holding:.3f} | {cost:+.1%} |", flush=True)
    verdict = "within" if worst <= LIMIT else "ABOVE"
    print(f"\nThe largest cost, {worst:.1%} of a step, is {verdict} the limit of {LIMIT:.0%}.")


def pruned(weight: Tensor) -> Tensor:
    """The tenth of the values that are largest, zeros elsewhere."""
    return weight.masked_fill(weight.abs() < weight.abs().quantile(0.9), 0.0)


def sparse(weight: Tensor) -> Form:
    return Form(sparse=pruned(weight))


def quantised(weight: Tensor) -> Form:
    values = pruned(weight)
    step = row_steps(values).to(values.dtype)
    return Form(sparse=from_grid((values / step[:, None]).round(), step), sparse_step=step)


def factors(weight: Tensor) -> Form:
    """A rank of a third of the width, and half of the values of either factor zero."""
    rank = min(weight.shape) // 3
    left, right = weight[:, :rank].clone(), weight[:rank].clone()
    return Form(left=left.masked_fill(left < 0, 0.0), right=right.masked_fill(right < 0, 0.0))


FORMS: dict[str, Callable[[Tensor], Form]] = {
    "90 % zeros": sparse,
    "90 % zeros, int8 grid": quantised,
    "sparse factors": factors,
}


def measured(
    form_of: Callable[[Tensor], Form], layers: int, batch: int, rounds: int, hidden: int
) -> tuple[float, float]:
    """Median processor seconds of a plain and of a held step."""
    torch.manual_seed(0)
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_attention_heads": hidden // 64}
    plain = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=layers, image_size=224, patch_size=32, **sizes))
    for unit in find_units(plain):
        if unit.kind == "linear" and not unit.obstacle:
            form = unit.read()
            assert form.sparse is not None
            with torch.no_grad():
                made = form_of(form.sparse.detach())
            unit.write(Form(**{**vars(made), "bias": form.bias}))
    holding = copy.deepcopy(plain)
    held(holding)
    steps = [step_of(module) for module in (plain, holding)]
    pixels = torch.randn(batch, 3, 224, 224)
    seconds: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for step, taken in zip(steps, seconds, strict=True):
            start = time.process_time()
            step(pixels)
            if turn:  # the first makes the optimiser's state
                taken.append(time.process_time() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def step_of(module: nn.Module) -> Callable[[Tensor], object]:
    parameters = list(module.parameters())

    def loss(pixels: Tensor) -> Tensor:
        value: Tensor = module(pixel_values=pixels).pooler_output.square().mean()
        return value

    clip = partial(nn.utils.clip_grad_norm_, parameters, 1.0)

    loop = Loop(loss, torch.optim.AdamW(parameters, 1e-4), clip=clip)
    return lambda pixels: loop.step(pixels)


if __name__ == "__main__":
    main()
