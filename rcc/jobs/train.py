"""job=train: train the model from scratch on the training split and leave a checkpoint directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from rcc.atomic import remove_directory
from rcc.command_line import command_line
from rcc.data.splits import Splits
from rcc.errors import Problems
from rcc.jobs.claim import claimed, finished, started_by
from rcc.jobs.job import Job
from rcc.plugins import build, checked
from rcc.reporting.formats import metric_text
from rcc.reporting.run_manifest import note_data
from rcc.reporting.training import TrainingDisplay
from rcc.training.pretrain import Trained, save_checkpoint

TRAINING = "training"  # the folder of what a resume needs; `rcc.composing.resume` looks for it
HANDED = ("splits", "seed", "measure", "device", "progress", "checkpoints", "resume")
"""What a trainer is given beside its own options."""


class Train(Job):
    """Pre-trains, keeps the epoch that `eval=` finds best on the selection split, measures it once on the test split.

    The checkpoint, with the command, the seed and the scores, is `checkpoint/` in the run's directory; what a resume
    needs is `training/`.
    """

    resumes: ClassVar[bool] = True

    def read(self, found: Problems) -> None:
        super().read(found)
        where, options = self.node("trainer")
        with found.collecting():
            checked(where, Trained, options, HANDED)
        self.refuse_costs_alone(found)
        processes = os.environ.get("WORLD_SIZE", "1")  # set by torchrun and `accelerate launch`
        found.check(
            processes == "1",
            f"job=train was launched as {processes} processes, and trains in one: each would train the same model."
            " Start it by rcc-run alone.",
        )

    @property
    def checkpoint_path(self) -> Path:
        """Where the trained model is written."""
        return self.directory / "checkpoint"

    def run(self) -> None:
        """Train, or go on with it, and leave a checkpoint."""
        where, options = self.node("trainer")
        if finished(self):
            print(
                f"{self.directory} has already finished: its checkpoint is {self.checkpoint_path}. Nothing was done;"
                " start a fresh run to train again."
            )
            return
        with claimed(self, makes=[self.checkpoint_path, self.directory / TRAINING]):
            splits = self.data()
            note_data(self.directory, splits.fingerprint)
            with TrainingDisplay() as display:
                trained: Trained = build(
                    where,
                    Trained,
                    options,
                    splits=splits,
                    seed=self.seed,
                    measure=self.measure,
                    device=self.settings["device"],
                    progress=display.finished,
                    checkpoints=self.directory / TRAINING,
                    resume=self.resumed,
                )
            self._leave(trained, splits)

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
