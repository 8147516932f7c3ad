"""Load the dense model that another one learns from, and refuse one that it cannot be compared with."""

from __future__ import annotations

import torch

from rcc import shipped
from rcc.artifact.manifest import is_artifact
from rcc.data.loading import batch_of
from rcc.data.splits import Splits
from rcc.errors import Problems
from rcc.jobs.job import Job
from rcc.jobs.source import load_source
from rcc.layers.model import Batch
from rcc.learning.distillation import Weights, repeated_blocks
from rcc.limits import expanded
from rcc.models.adapter import Adapter
from rcc.models.auto import AUTO
from rcc.plugins import TARGET


def teacher_of(job: Job, model: Adapter, splits: Splits, weights: Weights) -> Adapter:
    """The dense model that `teacher=` names: an artifact, a checkpoint, or a model= that needs no path.

    Raises:
        UserError: it cannot be loaded, or does not make of an item what `model` makes of it.
    """
    name, device = str(job.settings["teacher"]), job.settings["device"]
    path = expanded("teacher", name)
    if is_artifact(path):
        teacher = job.artifact(path)
    elif not path.exists() and name in shipped.choices(shipped.config_dir(), "model"):
        teacher = load_source({"name": name, TARGET: shipped.target("model", name)}, device)
    else:
        teacher = load_source({"name": AUTO, "path": name}, device)
    items = splits.train if len(splits.train) else splits.selection
    theirs, ours = batch_of(teacher, items, stop=8), batch_of(model, items, stop=8)
    refuse_other_inputs(name, teacher, model, theirs, ours)
    refuse_other_outputs(name, teacher.eval(), model, ours, weights)
    return teacher


def refuse_other_inputs(name: str, teacher: Adapter, model: Adapter, theirs: Batch, ours: Batch) -> None:
    """Refuse a teacher that prepares the same items otherwise than the model: each would learn of what it does not see.

    Raises:
        UserError: says which inputs differ and how.
    """
    problems = Problems(f"teacher '{name}'")
    for field in dict.fromkeys([*ours, *theirs]):
        if not problems.check(
            field in ours and field in theirs,
            f"{'it' if field in theirs else 'the model'} reads {field}, and the other does not.",
        ):
            continue
        then, now = theirs[field], ours[field]
        what = "tokenizer" if not now.is_floating_point() else "image size or normalisation"
        if problems.check(
            then.shape == now.shape,
            f"it makes {field} of {tuple(then.shape)} of the same items, and the model {tuple(now.shape)}: another"
            f" {what}.",
        ):
            same = bool((then == now).all()) or bool((then.float() - now.float()).abs().max() < 1e-3)
            problems.check(same, f"it makes other {field} of the same items: another {what}.")
    if problems.found:
        problems.check(False, f"Name the model that was compressed, or another that reads what '{model.name}' reads.")
    problems.done()


@torch.no_grad()
def refuse_other_outputs(name: str, teacher: Adapter, model: Adapter, batch: Batch, weights: Weights) -> None:
    """Refuse losses that compare what a teacher of another architecture has no counterpart of.

    Raises:
        UserError: says what differs, and which loss to leave out.
    """
    problems = Problems(f"teacher '{name}'")
    theirs, ours = teacher.outputs(batch), model.outputs(batch)
    for output in dict.fromkeys([*ours, *theirs]):
        then, now = (tuple(each[output].shape) if output in each else None for each in (theirs, ours))
        for loss in ("features", "interactive"):
            problems.check(
                then == now or getattr(weights, loss) == 0,
                f"it puts out {output} of {then} and the model {now}, which the loss '{loss}' compares number by"
                f" number: set trainer.{loss}=0. 'logits' compares similarities and scores.",
            )
    blocks = len(repeated_blocks(teacher.module)), len(repeated_blocks(model.module))
    for loss in ("hidden", "attention"):
        problems.check(
            blocks[0] == blocks[1] or getattr(weights, loss) == 0,
            f"it has {blocks[0]} blocks and the model {blocks[1]}, which the loss '{loss}' compares one by one: set"
            f" trainer.{loss}=0.",
        )
    problems.done()
