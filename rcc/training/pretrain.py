"""Pre-training a small CLIP from scratch on images with captions or classes: how the embedded checkpoint was made.

Every epoch shows each training image once, changed at random, with a text drawn at random: one of its captions, or a
prompt of its class. Pairs of one caption, or of one class, are all positives of each other.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.layers.model import Batch
from rcc.learning.history import History
from rcc.learning.trainer import CompressionTrainer, Progress
from rcc.learning.training_options import TrainingOptions
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.models.device import pick_device
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.architecture import Architecture, clip_for, new_clip
from rcc.training.augmentation import Affine
from rcc.training.cropping import Crop
from rcc.training.order import order_of
from rcc.training.pairs import pairs_of
from rcc.training.pixels import Pixels
from rcc.training.tokenizer import trained_tokenizer

RECORD = "TRAINING.json"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "scikit-learn")
AUGMENTATIONS = ("affine", "crop")
MARGIN = 5 / 4  # by which images are kept larger than the model's for crops, so that a crop is not an enlargement
FIRST_LOOK = 8  # images that are measured before training, to see that they can be

Measure = Callable[[Adapter, Split, Splits], Measurement]
Change = Callable[[Tensor, torch.Generator], Tensor]


class Trained(NamedTuple):
    """What a trainer returns: the model, and what each epoch was like."""

    model: CLIPWrapper
    history: History


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
    sampler: str = "shuffled",
    augmentation: str = "affine",
    degrees: float = 14.0,
    scale: float = 0.15,
    shift: float = 0.075,
    area: float = 0.5,
    flip: float = 0.5,
    jitter: float = 0.2,
    architecture: dict[str, int] | None = None,
    vocabulary: int = 4096,
    memory_megabytes: float = 2000,
    measure: Measure | None = None,
    device: str = "auto",
    progress: Progress = lambda done, total, what: None,
) -> Trained:
    """A CLIP trained on `splits.train`; the epoch with the best primary metric of `measure` (zero-shot accuracy by
    default) on `splits.selection` is kept.

    The same seed gives the same weights on the same machine with the same number of threads. `architecture`
    overrides sizes of `rcc.training.architecture.Architecture`. The tokenizer has a token for each word of the
    prompts; where there are captions it is trained on those of `splits.train`, to at most `vocabulary` tokens.

    Args:
        sampler: in which order an epoch takes the images: see `order_of`.
        augmentation: 'affine' (`degrees`, `scale`, `shift`) for drawings, 'crop' (`area`, `flip`, `jitter`) for
            photographs.
        memory_megabytes: that the decoded images may take.

    Raises:
        UserError: an option out of range, data without texts, or data that `measure` refuses.
    """
    options = TrainingOptions(
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        clip_norm=clip_norm,
    )
    affine, crop = Affine(degrees, scale, shift), Crop(area, flip, jitter)
    sizes = _architecture(architecture or {})
    problems = Problems("training")
    problems.choice("augmentation", augmentation, AUGMENTATIONS)
    problems.check(
        1 <= batch_size <= len(splits.train),
        f"batch_size is {batch_size}; it must lie between 1 and {len(splits.train)}, the number of training images.",
    )
    problems.done()
    order = order_of(sampler, splits.train, batch_size, seed)
    adapter = _new_adapter(splits, sizes, vocabulary, seed)
    adapter.module.to(pick_device(device))  # type: ignore[arg-type]
    measure = measure or ZeroShotEvaluator().evaluate

    def score() -> float:
        metric = measure(adapter, splits.selection, splits).main
        return metric.value if metric.higher_is_better else -metric.value

    pairs = pairs_of(adapter, splits.train, splits)
    measure(adapter, splits.selection.take(min(FIRST_LOOK, len(splits.selection))), splits)
    kept = round(sizes.image * MARGIN) if augmentation == "crop" else sizes.image
    pixels = Pixels(adapter, splits.train.images, kept, int(memory_megabytes * 1e6))
    change: Change = (
        partial(crop, side=sizes.image) if augmentation == "crop" else partial(affine, background=pixels.black)
    )

    def batches(epoch: int) -> Iterator[Batch]:
        """A pure function of the epoch's number and the seed."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        indices = order(epoch, generator)
        for start in range(0, len(indices) - batch_size + 1, batch_size):
            chosen = indices[start : start + batch_size]
            texts = pairs(chosen, generator)
            yield {"pixel_values": change(pixels(chosen), generator), **texts}

    trainer = CompressionTrainer(adapter, config=options, progress=progress)
    return Trained(adapter, trainer.fit(batches, score, len(splits.train) // batch_size))


def _new_adapter(splits: Splits, sizes: Architecture, vocabulary: int, seed: int) -> CLIPWrapper:
    if not splits.train.captions:
        return new_clip(sizes, [*splits.class_names, *splits.templates], seed)
    texts = (caption for written in splits.train.captions for caption in written)
    return clip_for(sizes, trained_tokenizer(texts, vocabulary, sizes.context), seed)


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
