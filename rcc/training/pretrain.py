"""Pre-training a small CLIP from scratch on captioned images: how the embedded checkpoint was made.

Every epoch shows each training image once, moved at random, with a prompt drawn at random from the templates;
pairs of one class are all positives of each other.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.templates import prompts
from rcc.evaluation.zero_shot import ZeroShotEvaluator
from rcc.models.adapter import Adapter, Batch
from rcc.models.clip import CLIPWrapper
from rcc.models.device import pick_device
from rcc.training.architecture import Architecture, new_clip
from rcc.training.augmentation import Affine
from rcc.training.trainer import History, Progress, Trainer, TrainingOptions

RECORD = "TRAINING.json"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "scikit-learn")


def pretrain(
    splits: Splits,
    *,
    seed: int = 0,
    epochs: int = 60,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: int = 50,
    clip_norm: float = 1.0,
    degrees: float = 14.0,
    scale: float = 0.15,
    shift: float = 0.075,
    architecture: dict[str, int] | None = None,
    device: str = "auto",
    progress: Progress = lambda done, total, what: None,
) -> tuple[CLIPWrapper, History]:
    """A CLIP trained on `splits.train`; the epoch with the best zero-shot accuracy on `splits.selection` is
    kept.

    The same seed gives the same weights on the same machine with the same number of threads. `architecture`
    overrides sizes of `rcc.training.architecture.Architecture`.

    Raises:
        UserError: an option out of range.
    """
    options = TrainingOptions(
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        clip_norm=clip_norm,
    )
    affine = Affine(degrees, scale, shift)
    steps = len(splits.train) // batch_size if batch_size > 0 else 0
    if steps < 1:
        raise UserError(
            f"training: batch_size is {batch_size}; it must lie between 1 and {len(splits.train)}, the"
            " number of training images."
        )
    adapter = new_clip(_architecture(architecture or {}), [*splits.class_names, *splits.templates], seed)
    adapter.module.to(pick_device(device))  # type: ignore[arg-type]
    epoch_batches = _Batches(adapter, splits, affine, batch_size, seed)
    evaluator = ZeroShotEvaluator()
    trainer = Trainer(options, lambda: evaluator.evaluate(adapter, splits.selection, splits).main.value, progress)
    return adapter, trainer.fit(adapter, epoch_batches, steps)


class _Batches:
    """The batches of an epoch: a pure function of the epoch's number and the seed."""

    def __init__(self, adapter: Adapter, splits: Splits, affine: Affine, batch_size: int, seed: int) -> None:
        self.affine, self.batch_size, self.seed = affine, batch_size, seed
        self.pixels = _pixels(adapter, splits.train)
        self.background = _pixels(adapter, splits.train, black=True)[0, :, 0, 0]
        self.labels = torch.from_numpy(splits.train.labels).to(adapter.device)
        self.tokens = adapter.prepare(texts=prompts(splits.class_names, splits.templates))
        self.templates = len(splits.templates)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            chosen = order[start : start + self.batch_size].to(self.labels.device)
            template = torch.randint(self.templates, (self.batch_size,), generator=generator).to(chosen.device)
            labels = self.labels[chosen]
            text = {key: tokens[labels * self.templates + template] for key, tokens in self.tokens.items()}
            pixels = self.affine(self.pixels[chosen], generator, self.background)
            yield {"pixel_values": pixels, "labels": labels, **text}


def _pixels(adapter: Adapter, split: Split, black: bool = False) -> torch.Tensor:
    images = [Image.new("RGB", split.images[0].size)] if black else split.pictures()
    return adapter.prepare(images=images)["pixel_values"]


def _architecture(sizes: dict[str, int]) -> Architecture:
    problems = Problems("architecture")
    for name in sizes:
        problems.choice("size", name, vars(Architecture()))
    problems.done()
    return Architecture(**sizes)


def save_checkpoint(adapter: Adapter, directory: Path | str, record: Mapping[str, Any]) -> Path:
    """Write a directory that `from_pretrained` and the adapter's `load` read.

    TRAINING.json holds `record` (the command, seed, scores) and the threads and versions it was made with. The same
    weights give the same bytes of every other file.

    Raises:
        UserError: the directory exists and is not empty.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"'{directory}' is not empty; give a directory that does not exist yet.")
    adapter.save_files(directory)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.module.state_dict().items()}
    (directory / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    made = {
        "parameters": sum(parameter.numel() for parameter in adapter.module.parameters()),
        "threads": torch.get_num_threads(),
        "made_with": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }
    (directory / RECORD).write_text(json.dumps({**record, **made}, indent=2) + "\n")
    return directory
