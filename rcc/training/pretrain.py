"""Pre-training a small CLIP from scratch on images with captions or classes: how the embedded checkpoint was made.

Every epoch shows each training image once, changed at random, with a text drawn at random: one of its captions, or a
prompt of its class. Pairs of one caption, or of one class, are all positives of each other.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from rcc.atomic import disk_errors, new_directory
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.layers.model import Batch
from rcc.learning.callback import Callback
from rcc.learning.history import History
from rcc.learning.trainer import CompressionTrainer, Progress
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device
from rcc.models.transformers.clip import CLIPWrapper
from rcc.plugins import takes
from rcc.training.architecture import Architecture, clip_for, new_clip
from rcc.training.order import order_of
from rcc.training.pairs import pairs_of
from rcc.training.pixels import Pixels
from rcc.training.pretraining_options import PretrainingOptions
from rcc.training.tokenizer import trained_tokenizer

RECORD = "TRAINING.json"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "scikit-learn")
MARGIN = 5 / 4  # by which images are kept larger than the model's for crops, so that a crop is not an enlargement
FIRST_LOOK = 8  # images that are measured before training, to see that they can be

Measure = Callable[[Adapter, Split, Splits], Measurement]
Change = Callable[[Tensor, torch.Generator], Tensor]


class Trained(NamedTuple):
    """What a trainer returns: the model, and what each epoch was like."""

    model: CLIPWrapper
    history: History


@takes(PretrainingOptions)
def pretrain(
    splits: Splits,
    *,
    seed: int = 0,
    measure: Measure | None = None,
    device: str = "auto",
    progress: Progress = lambda done, total, what: None,
    callbacks: Sequence[Callback] = (),
    checkpoints: Path | None = None,
    resume: bool = False,
    **options: Any,
) -> Trained:
    """A CLIP trained on `splits.train`; the epoch with the best primary metric of `measure` (zero-shot accuracy by
    default) on `splits.selection` is kept.

    The same seed gives the same weights on the same machine with the same number of threads. The tokenizer has a token
    for each word of the prompts; where there are captions it is trained on those of `splits.train`.

    Args:
        callbacks: called between steps.
        checkpoints: a folder for what a resume needs; None keeps nothing.
        resume: go on from that folder, where it holds a checkpoint.
        options: `PretrainingOptions`.

    Raises:
        UserError: an option out of range, data without texts, or data that `measure` refuses.
    """
    asked = PretrainingOptions(**options)
    batch_size, sizes = asked.batch_size, asked.sizes()
    _check_data(splits.train, batch_size)
    order = order_of(asked.sampler, splits.train, batch_size, seed)
    adapter = _new_adapter(splits, sizes, asked.vocabulary, seed)
    if asked.gradient_checkpointing:
        mark_blocks(adapter.module, "trainer")
    adapter.module.to(pick_device(device))  # type: ignore[arg-type]
    measure = measure or ZeroShotEvaluator().evaluate

    def score() -> float:
        metric = measure(adapter, splits.selection, splits).main
        return metric.value if metric.higher_is_better else -metric.value

    pairs = pairs_of(adapter, splits.train, splits)
    measure(adapter, splits.selection.take(min(FIRST_LOOK, len(splits.selection))), splits)
    kept = round(sizes.image * MARGIN) if asked.augmentation == "crop" else sizes.image
    pixels = Pixels(adapter, splits.train.images, kept, int(asked.memory_megabytes * 1e6))
    change: Change = partial(asked.affine(), background=pixels.black)
    if asked.augmentation == "crop":
        change = partial(asked.crop(), side=sizes.image)

    def batches(epoch: int) -> Iterator[Batch]:
        """A pure function of the epoch's number and the seed."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        indices = order(epoch, generator)
        for start in range(0, len(indices) - batch_size + 1, batch_size):
            chosen = indices[start : start + batch_size]
            texts = pairs(chosen, generator)
            yield {"pixel_values": change(pixels(chosen), generator), **texts}

    trainer = CompressionTrainer(
        adapter,
        config=asked,
        progress=progress,
        callbacks=callbacks,
        checkpoints=checkpoints,
        resume=resume,
        identity={"seed": seed},
    )
    return Trained(adapter, trainer.fit(batches, score, len(splits.train) // batch_size))


def _check_data(split: Split, batch_size: int) -> None:
    """Refuse a split that a contrastive loss learns nothing from.

    Raises:
        UserError: it is empty, smaller than a batch, or all of one class.
    """
    problems = Problems("training")
    if problems.check(len(split) > 0, "there are no training images; data.train says how many there are."):
        problems.check(
            batch_size <= len(split),
            f"batch_size is {batch_size}; it must lie between 2 and {len(split)}, the number of training images.",
        )
        one = split.labels is not None and not split.captions and len(set(split.labels.tolist())) == 1
        problems.check(not one, "all training images are of one class, and there is none to tell it from.")
    problems.done()


def _new_adapter(splits: Splits, sizes: Architecture, vocabulary: int, seed: int) -> CLIPWrapper:
    if not splits.train.captions:
        return new_clip(sizes, [*splits.class_names, *splits.templates], seed)
    texts = (caption for written in splits.train.captions for caption in written)
    return clip_for(sizes, trained_tokenizer(texts, vocabulary, sizes.context), seed)


def save_checkpoint(adapter: Adapter, directory: Path | str, record: Mapping[str, Any]) -> Path:
    """Write a directory that `from_pretrained` and the adapter's `load` read.

    TRAINING.json holds `record` (the command, seed, scores) and the threads and versions it was made with. The same
    weights give the same bytes of every other file.

    Raises:
        UserError: the directory exists and is not empty, or its place cannot be written to.
        WorkError: the disk is full or fails.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"'{directory}' is not empty; give a directory that does not exist yet.")
    with disk_errors(directory):
        if directory.exists():
            directory.rmdir()
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.module.state_dict().items()}
    made = {
        "parameters": sum(parameter.numel() for parameter in adapter.module.parameters()),
        "threads": torch.get_num_threads(),
        "made_with": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }
    with new_directory(directory) as partly:
        adapter.save_files(partly)
        (partly / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
        (partly / RECORD).write_text(json.dumps({**record, **made}, indent=2) + "\n")
    return directory
