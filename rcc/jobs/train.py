"""job=train: train a model from scratch and leave a checkpoint, or train what an artifact stores and write it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from rcc.artifact.container import FILE
from rcc.atomic import remove_directory
from rcc.command_line import command_line
from rcc.data.splits import Splits
from rcc.errors import Problems
from rcc.jobs import recover
from rcc.jobs.claim import claimed, finished, started_by
from rcc.jobs.job import Job
from rcc.learning.callback import StepLines
from rcc.learning.processes import Processes, joined, launched
from rcc.models.device import pick_device
from rcc.plugins import TARGET, build, checked, locate
from rcc.reporting.formats import metric_text
from rcc.reporting.run_manifest import note_data
from rcc.reporting.training import TrainingDisplay
from rcc.stages.recover import Recovery
from rcc.training.pretrain import Trained, save_checkpoint

TRAINING = "training"  # the folder of what a resume needs; `rcc.composing.resume` looks for it
HANDED = ("splits", "seed", "measure", "device", "progress", "callbacks", "checkpoints", "resume")
"""What a trainer is given beside its own options."""


class Train(Job):
    """Trains, keeps the epoch that `eval=` finds best on the selection split, measures it once on the test split.

    A trainer that makes a model leaves `checkpoint/` in the run's directory, with the command, the seed and the scores;
    recovery leaves an artifact. What a resume needs is `training/`.
    """

    resumes: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    recovery: Recovery | None = None

    def read(self, found: Problems) -> None:
        super().read(found)
        where, options = self.node("trainer")
        with found.collecting():
            self._read_trainer(where, options, found)
        self.refuse_precision(found, options.get("precision"))
        self.refuse_costs_alone(found)
        if launched() > 1:
            self._check_processes(options, found)

    def _check_processes(self, options: Mapping[str, object], found: Problems) -> None:
        """Note what several processes cannot do together."""
        size = options.get("batch_size")
        with found.collecting():
            if isinstance(size, int):
                Processes(0, launched()).check_batch(size)

    def _read_trainer(self, where: str, options: dict[str, object], found: Problems) -> None:
        if not found.check(
            TARGET in options,
            "trainer=none trains nothing. Take trainer=pretrain, a model from scratch, or trainer=recover"
            " model.path=<run>/artifact, what an artifact stores.",
        ):
            return
        made = locate(where, options[TARGET], object)
        if isinstance(made, type) and issubclass(made, Recovery):
            self.recovery = build(where, Recovery, options)
            recover.check(self, self.recovery, found)
            return
        checked(where, Trained, options, HANDED)
        for given in self.overrides_of("model", "teacher"):
            found.check(
                False,
                f"{given} has no effect: {where} makes a model of its own. Leave it out, or take trainer=recover to"
                " train what an artifact stores.",
            )

    @property
    def checkpoint_path(self) -> Path:
        """Where a trained model is written."""
        return self.directory / "checkpoint"

    @property
    def artifact_path(self) -> Path:
        """Where a recovered artifact is written: a directory, or a file where it was one."""
        return self.directory / (FILE if recover.source_of(self).is_file() else "artifact")

    @property
    def training_path(self) -> Path:
        """Where the checkpoints lie that a resume needs."""
        return self.directory / TRAINING

    def run(self) -> None:
        """Train, or go on with it, and leave a checkpoint or an artifact."""
        leaves = self.checkpoint_path if self.recovery is None else self.artifact_path
        if finished(self):
            print(
                f"{self.directory} has already finished: it left {leaves}. Nothing was done; start a fresh run to train"
                " again."
            )
            return
        with joined(pick_device(str(self.settings["device"]))) as processes:
            if not processes.leads:
                self.set_threads()
                if self.recovery is None:
                    self._pretrained(self.data(), None)
                else:
                    recover.follow(self, self.recovery, self.data())
                return
            with claimed(self, makes=[leaves, self.training_path]):
                splits = self.data()
                note_data(self.directory, splits.fingerprint)
                if self.recovery is not None:
                    recover.recover(self, self.recovery, splits)
                    return
                with TrainingDisplay() as display:
                    trained = self._pretrained(splits, display)
                self._leave(trained, splits)

    def _pretrained(self, splits: Splits, display: TrainingDisplay | None) -> Trained:
        """What the trainer makes of the splits. Without a display, in a process that follows another one, which
        measures and writes."""
        where, options = self.node("trainer")
        trained: Trained = build(
            where,
            Trained,
            options,
            splits=splits,
            seed=self.seed,
            measure=self.measure,
            device=self.settings["device"],
            progress=_silent if display is None else display.finished,
            callbacks=[StepLines(_silent if display is None else display.within)],
            checkpoints=None if display is None and not self.resumed else self.training_path,
            resume=self.resumed,
        )
        return trained

    def _leave(self, trained: Trained, splits: Splits) -> None:
        """Measure the model, write its checkpoint, and say how to compress it."""
        test = self.measure(trained.model, splits.test, splits)
        selection = self.measure(trained.model, splits.selection, splits)
        record = {
            "command": " ".join(started_by(self)),
            "seed": self.seed,
            "data": self.published["data"],
            "trainer": self.published["trainer"],
            "selection": {metric.name: metric.value for metric in selection.metrics},
            "test": {metric.name: metric.value for metric in test.metrics},
            "history": trained.history.to_json(),
        }
        directory = self.checkpoint_path
        if self.resumed and directory.exists():  # of an attempt that was killed right after
            remove_directory(directory)
        save_checkpoint(trained.model, directory, record)
        print(f"test {test.main.name} {metric_text(test.main, interval=True)} on {test.samples} images")
        print(f"Checkpoint: {directory}")
        again = command_line("model=clip", f"model.path={directory}", *self.overrides_of("data", "eval"))
        print(f"Compress it: {again}")


def _silent(done: int, total: int, what: str) -> None:
    """Say nothing of progress."""
