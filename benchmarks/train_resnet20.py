"""Trains the ResNet-20 of the real-model benchmark on 32-pixel photographs of ten classes.

    OMP_NUM_THREADS=1 nice -n 15 python benchmarks/train_resnet20.py --data <folder with cifar10/> --work <folder>

SGD with momentum and one cycle of the learning rate, random crops and mirror images. Images are decoded once and kept
as a uint8 tensor in the work folder. The last HELD images of the training split are left out, for the gate of the
compression. A checkpoint is written after every epoch; a killed training goes on behind it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from equal_bytes.kept import keep, recall
from subjects.resnet20 import CHECKPOINT, HELD, MODEL, ResNet20, images_of, logits_of, scaled
from torch import Tensor, nn

BATCH = 128
PEAK, MOMENTUM, DECAY = 0.4, 0.9, 5e-4
PADDING = 4
EPOCHS = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds cifar10/train.parquet, test.parquet"
    )
    parser.add_argument("--work", type=Path, required=True, help="where decoded images and the checkpoint lie")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = (tensor[:-HELD] for tensor in images_of("train", options.data, options.work))
    model = ResNet20().to(memory_format=torch.channels_last)
    steps = options.epochs * (len(images) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps, pct_start=0.25)
    path = options.work / CHECKPOINT
    first = 0
    if path.exists():
        kept, facts = recall(path)
        if facts["epochs"] != options.epochs:
            raise SystemExit(f"{path} is of a training of {facts['epochs']:g} epochs, {options.epochs} were asked.")
        first = int(facts["done"])
        restore(model, optimizer, kept)
        optimizer.step()  # without gradients it does nothing; a schedule warns that goes before its optimiser
        for _ in range(first * (len(images) // BATCH)):
            schedule.step()
    for epoch in range(first, options.epochs):
        started = time.process_time()
        loss = train_epoch(model, optimizer, schedule, images, labels, epoch)
        keep(path, state_of(model, optimizer), {"done": epoch + 1, "epochs": options.epochs})
        print(f"epoch {epoch + 1}/{options.epochs}: loss {loss:.4f}, {time.process_time() - started:.0f} s", flush=True)
    photographs, wanted = images_of("test", options.data, options.work)
    share = (logits_of(model, photographs).argmax(1) == wanted).double().mean().item()
    print(f"{share:.2%} of {len(wanted)} test images are right", flush=True)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    images: Tensor,
    labels: Tensor,
    epoch: int,
) -> float:
    """One pass over the images in an order of the epoch's own; the mean loss."""
    model.train()
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(len(images), generator=generator)
    total, batches = 0.0, len(images) // BATCH
    for batch in order[: batches * BATCH].view(batches, BATCH):
        inputs = augmented(images[batch], generator)
        # Matrix units for bfloat16 make an epoch several times faster where the processor has them.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(inputs)
        loss = nn.functional.cross_entropy(outputs.float(), labels[batch], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    return total / batches


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 3, 32, 32) bytes → scaled floats, each moved by up to four pixels and mirrored half of the time."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(scaled(images), [PADDING] * 4)
    shift = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator)
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    item = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[item, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # the memory is channels last


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The network's tensors, and the momentum of each parameter."""
    momenta = {
        f"momentum.{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in model.named_parameters()
    }
    return {**{f"{MODEL}{name}": tensor for name, tensor in model.state_dict().items()}, **momenta}


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
    model.load_state_dict({name.removeprefix(MODEL): kept[name] for name in kept if name.startswith(MODEL)})
    for name, parameter in model.named_parameters():
        # The buffer takes the parameter's layout in memory: channels last.
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(kept[f"momentum.{name}"])


if __name__ == "__main__":
    main()
