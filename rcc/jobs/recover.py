"""Recover an artifact that exists: train what it stores, its form held, and write it anew, in no more bytes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rcc.artifact.container import FILE
from rcc.artifact.contents import checksum
from rcc.artifact.manifest import is_artifact, read_manifest, record_metrics
from rcc.artifact.reloading import answers, refuse_difference, round_as_stored
from rcc.artifact.size import directory_bytes
from rcc.artifact.write import write_artifact
from rcc.atomic import clean_leftovers, remove_directory, write_text
from rcc.calibration.targets import dense_outputs
from rcc.cascade.attempt import score_of
from rcc.cascade.gate import retention
from rcc.command_line import command_line
from rcc.data.loading import batch_of
from rcc.data.splits import Splits
from rcc.errors import Problems
from rcc.jobs.storing import Storing
from rcc.jobs.teacher import teacher_of
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.model import Batch
from rcc.learning.processes import current
from rcc.learning.trainer import Progress
from rcc.limits import expanded
from rcc.measurement import Measurement
from rcc.measurement.paired import differences
from rcc.models.adapter import Adapter
from rcc.reporting.formats import difference_text, interval_text, metric_text
from rcc.reporting.run_manifest import note_result
from rcc.reporting.training import TrainingDisplay
from rcc.stages.base import StageContext
from rcc.stages.learning import TAUGHT
from rcc.stages.recover import Recovery
from rcc.stages.recover.options import LAST
from rcc.training.batches import BATCH_SIZE, TrainingSplit

if TYPE_CHECKING:
    from rcc.jobs.train import Train

RECORD = "recovery.json"
SPLITS = SELECTION, TEST = "selection", "test"
DIGITS = 16
"""Most bytes by which a metric's number may be longer than another."""
Measured = Mapping[str, Measurement]
"""By split."""


def check(job: Train, stage: Recovery, found: Problems) -> None:
    """Note what cannot be recovered, and every option without effect."""
    options, teacher = stage.options, job.settings["teacher"]
    path = job.settings["model"].get("path")
    found.check(
        options.when == LAST,
        f"trainer.when={options.when} has no effect: job=train has no rounds. Leave it at {LAST}.",
    )
    if path is None:
        found.check(False, "trainer=recover trains an artifact that exists: name it, model.path=<run>/artifact.")
    elif isinstance(path, str) and not is_artifact(source := source_of(job)):
        inside = next((place for place in (source / "artifact", source / FILE) if is_artifact(place)), None)
        hint = "" if inside is None else f" Did you mean model.path={inside}?"
        found.check(
            False,
            f"model.path '{path}' is no artifact, and trainer=recover trains what one stores.{hint} A checkpoint is"
            f" compressed and recovered by `{command_line('model=auto', f'model.path={path}', 'trainer=recover')}`.",
        )
    if teacher is None:
        for name in options.changed([*TAUGHT, "temperature"]):
            found.check(
                False,
                f"trainer.{name}={getattr(options, name)} has no effect without a dense model to learn from: name it,"
                " teacher=<checkpoint>; without one the model's own loss is what is learned by.",
            )
    else:
        found.path("teacher", teacher)


def source_of(job: Train) -> Path:
    """The artifact that `model.path` names."""
    return expanded("model.path", str(job.settings["model"]["path"]))


def recover(job: Train, stage: Recovery, splits: Splits) -> None:
    """Train what the artifact of `model.path` stores, write it anew, and say what that gave back.

    Raises:
        UserError: the teacher and the model do not read the same inputs, or there is nothing to train on.
        WorkError: the loss is not finite, the disk is full, or the artifact does not reload to the same outputs.
    """
    source, target = source_of(job), job.artifact_path
    model, storing = job.model(), Storing(source)
    teacher = None if job.settings["teacher"] is None else teacher_of(job, model, splits, stage.options.weights)
    assert job.suite is not None
    job.suite.fit_batches(model, splits.selection, splits)
    before = _measured(job, model, splits)
    storing.expect(model, job.directory)
    # A digit more or less in each metric is a byte that nothing knows yet.
    most = max(
        directory_bytes(source) - DIGITS * sum(len(measured.metrics) for measured in before.values()),
        storing.nbytes(model),
    )
    with TrainingDisplay() as display:
        facts = _trained(job, stage, model, teacher, splits, storing, most, partial(_shown, display))
    clean_leftovers(job.directory)
    if target.is_file():  # of an attempt that was killed right after
        target.unlink()
    elif target.exists():
        remove_directory(target)
    write_artifact(model, target, storing.dtype, storing.config, {}, storing.entropy, storing.container)
    batch = batch_of(model, splits.selection, stop=BATCH_SIZE)
    round_as_stored(model.module, read_manifest(target))
    memory = answers(model, batch)
    reloaded = job.artifact(target)
    refuse_difference(memory, answers(reloaded, batch), target)
    after = _measured(job, reloaded, splits)
    kept = None
    if teacher is not None:
        kept = retention(job.measure(teacher, splits.selection, splits).main, after[SELECTION].main)
    record_metrics(target, storing.measured(after[SELECTION], after[TEST], kept, splits.fingerprint))
    sizes = directory_bytes(source), directory_bytes(target)
    write_text(job.directory / RECORD, json.dumps(_record(job, before, after, facts, sizes, kept), indent=2) + "\n")
    note_result(job.directory, {"bytes": float(sizes[1])} | ({} if kept is None else {"retention": kept}))
    _tell(before, after, facts, sizes)
    print(f"Artifact: {target}")
    print(f"Measure it again: {job.command_to_measure(target)}")


def follow(job: Train, stage: Recovery, splits: Splits) -> None:
    """Train with the process that `recover`s, in another one, which measures and writes nothing."""
    model, storing = job.model(), Storing(source_of(job))
    teacher = None if job.settings["teacher"] is None else teacher_of(job, model, splits, stage.options.weights)
    with tempfile.TemporaryDirectory() as scratch:
        storing.expect(model, Path(scratch))
    _trained(job, stage, model, teacher, splits, storing, 0, lambda done, total, what: None)


def _measured(job: Train, model: Adapter, splits: Splits) -> Measured:
    return {name: job.measure(model, splits[name], splits) for name in SPLITS}


def _trained(
    job: Train,
    stage: Recovery,
    model: Adapter,
    teacher: Adapter | None,
    splits: Splits,
    storing: Storing,
    most: int,
    progress: Progress,
) -> dict[str, Any]:
    """Train, leave the best epoch in `model`, and return what each was like.

    Args:
        most: bytes that the artifact may take; what the first process says.
    """
    processes = current()
    most = round(processes.told(most))
    calibration: Sequence[Batch] = []
    if teacher is not None:
        starts = range(0, len(splits.calibration), BATCH_SIZE)
        calibration = [batch_of(model, splits.calibration, start, start + BATCH_SIZE) for start in starts]

    def beside() -> AbstractContextManager[Adapter]:
        assert teacher is not None
        return nullcontext(teacher)

    context = StageContext(
        seed=job.seed,
        calibration=calibration,
        targets=None if teacher is None else _comparable(teacher, model, calibration),
        dense=None if teacher is None else beside,
        storage=STORED_DTYPES[storing.dtype],
        training=TrainingSplit(model, splits),
        score=lambda: score_of(model, lambda adapter: job.measure(adapter, splits.selection, splits)),
        scratch=job.training_path if processes.leads or job.resumed else None,
        identity={
            "artifact": checksum(model.module),
            "teacher": None if teacher is None else checksum(teacher.module),
        },
        fits=lambda: storing.nbytes(model) <= most,
        progress=progress,
    )
    report = (stage if teacher is not None else stage.by_task()).apply(model, context)
    return report.facts


def _comparable(teacher: Adapter, model: Adapter, batches: Sequence[Batch]) -> list[dict[str, Tensor]] | None:
    """The teacher's outputs, by whose distance epochs of one score are told apart; None where they are of other shapes
    than the model's."""
    targets = dense_outputs(teacher, batches)
    if not targets:
        return None
    with torch.no_grad():
        own = {name: each.shape for name, each in model.outputs(batches[0]).items()}
    return targets if own == {name: each.shape for name, each in targets[0].items()} else None


def _shown(display: TrainingDisplay, done: int, total: int, what: str) -> None:
    kind, _, told = what.partition(", ")
    if kind == "epochs":
        display.finished(done, total, told)
    else:
        display.within(done, total, what)


def _record(
    job: Train,
    before: Measured,
    after: Measured,
    facts: Mapping[str, Any],
    sizes: tuple[int, int],
    kept: float | None,
) -> dict[str, Any]:
    """What the run came to, as plain data."""
    record: dict[str, Any] = {"model": job.published["model"], "teacher": job.published["teacher"], "retention": kept}
    for split in SPLITS:
        apart = differences(after[split], before[split])
        record[split] = {
            metric.name: {
                "before": before[split][metric.name].value,
                "after": metric.value,
                "interval": None if (found := apart[metric.name].interval) is None else [found.low, found.high],
            }
            for metric in after[split].metrics
        }
    return record | {"bytes": list(sizes), **facts}


def _tell(before: Measured, after: Measured, facts: Mapping[str, Any], sizes: tuple[int, int]) -> None:
    """Print what recovery gave back, a line a split, and what it takes."""
    for split in SPLITS:
        then, now = before[split].main, after[split].main
        apart = differences(after[split], before[split])[now.name]
        paired = "" if apart.interval is None else f", {interval_text(apart.interval, now, signed=True)}"
        print(
            f"{split} {now.name} {metric_text(then)} → {metric_text(now)} ({difference_text(now, apart)}{paired})"
            f" on {after[split].samples} samples"
        )
    print(f"bytes {sizes[0]:,} → {sizes[1]:,}")
    best, epochs = facts["best_epoch"], len(facts["epochs"])
    print(
        f"epoch {best} of {epochs} was kept" if best else f"none of {epochs} epochs was better: values are as they were"
    )
