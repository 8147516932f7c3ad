"""Measures what `CompressionTrainer` costs beside a bare PyTorch loop that does the same work.

    OMP_NUM_THREADS=1 python benchmarks/trainer.py
    OMP_NUM_THREADS=1 python benchmarks/trainer.py --rounds 41

A CLIP of the embedded one's architecture and a copy of it take turns on the same batches, one by the trainer and one by
a loop written out: forward, backward, clipping, AdamW and the learning rate. Each turn is one step; the trainer's turn
holds all that it does for a step (norms, counts, the check of what is not finite). Figures are medians of processor
seconds, the cost the median of the ratios of neighbouring turns. Both end with the same weights, which is checked.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rcc.data.sets.digits import load_digits
from rcc.learning.optimisers import decay_groups
from rcc.learning.schedules import warmup_cosine
from rcc.learning.trainer import CompressionTrainer, TrainingOptions
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.architecture import Architecture, new_clip

LIMIT = 0.03
"""Of a bare step: what the trainer may cost."""
WARM = 3  # first turns, which allocate, are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=64, help="image and text pairs in a step")
    parser.add_argument("--rounds", type=int, default=21, help="steps of each that are counted")
    options = parser.parse_args()
    bare: list[float] = []
    ours: list[float] = []
    steps = WARM + options.rounds
    theirs, trained = made(), made()
    batches = [batch_of(trained, seed, options.batch) for seed in range(steps)]
    by_hand = written_out(theirs, batches)

    def turns(epoch: int) -> Iterator[dict[str, Tensor]]:
        """The trainer's batches; what it does between two of them is its step."""
        for batch in batches:
            started = time.process_time()
            next(by_hand)
            bare.append(time.process_time() - started)
            started = time.process_time()
            yield batch
            ours.append(time.process_time() - started)

    CompressionTrainer(trained, config=TrainingOptions(epochs=1, warmup=5)).fit(turns, lambda: 0.0, steps)
    same = all(
        torch.equal(one, other)
        for one, other in zip(theirs.module.parameters(), trained.module.parameters(), strict=True)
    )
    bare, ours = bare[WARM:], ours[WARM:]
    cost = statistics.median(mine / plain for plain, mine in zip(bare, ours, strict=True)) - 1
    print(
        f"batch {options.batch}, {options.rounds} steps each, torch {torch.__version__},"
        f" {torch.get_num_threads()} thread(s)\n\n"
        "| bare step, s | trainer's step, s | cost | same weights |\n| --: | --: | --: | :-- |\n"
        f"| {statistics.median(bare):.4f} | {statistics.median(ours):.4f} | {cost:+.1%} | {'yes' if same else 'no'} |"
    )
    print(f"\nThe limit is {LIMIT:.0%}: {'met' if cost <= LIMIT and same else 'missed'}.")


def made() -> CLIPWrapper:
    digits = load_digits(train=10, calibration=10, selection=10, test=10)
    return new_clip(Architecture(), [*digits.class_names, *digits.templates], seed=0)


def batch_of(model: CLIPWrapper, seed: int, count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = model.prepare(texts=[f"a photo of the digit {number}" for number in ("one", "two", "three", "four")])
    rows = torch.randint(4, (count,), generator=generator)
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    return {"pixel_values": pixels, "labels": rows, **{name: each[rows] for name, each in tokens.items()}}


def written_out(model: CLIPWrapper, batches: list[dict[str, Tensor]]) -> Iterator[None]:
    """A step each time it is asked."""
    model.module.train()
    optimiser = torch.optim.AdamW(decay_groups(model.module, 0.05), lr=1e-3, betas=(0.9, 0.98))
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmup_cosine(step, len(batches), 5))
    parameters = list(model.module.parameters())
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rates.step()
        loss.item()
        yield


if __name__ == "__main__":
    main()
