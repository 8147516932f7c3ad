"""Read what a compression is asked: its stages, schedule, gate, target and calibration, as one checked object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rcc.artifact.container import CONTAINERS, FILE
from rcc.cascade.abandonment import Question
from rcc.cascade.bytes.balance import SPLITS, solved_for
from rcc.cascade.bytes.budget import Target
from rcc.cascade.bytes.filling import target_problems
from rcc.cascade.gate import Gate
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.records import Observer, Step
from rcc.cascade.schedule import Schedule, order_problems
from rcc.command_line import command_line
from rcc.data.loading import batch_of
from rcc.data.splits import Split, Splits
from rcc.errors import Problems
from rcc.jobs.job import Job
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.plugins import TARGET, build, locate
from rcc.reporting.console import Console
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.metrics_log import MetricsLog
from rcc.reporting.observers import Observers, RunObserver
from rcc.stages.base import Stage
from rcc.training.batches import TrainingSplit


class Compression(Job):
    """A compression that is asked for; `Compress` does it."""

    resumes: ClassVar[bool] = True
    stages: list[Stage]
    schedule: Schedule
    gate: Gate
    loggers: list[RunObserver]

    def read(self, found: Problems) -> None:
        super().read(found)
        found.choice("export.dtype", self.settings["export"]["dtype"], STORED_DTYPES)
        found.choice("export.entropy", self.settings["export"]["entropy"], ENTROPIES)
        found.choice("export.container", self.settings["export"]["container"], CONTAINERS)
        found.flag("fold", self.settings["fold"])
        found.whole("state.keep_last", self.settings["state"]["keep_last"], 1)
        found.whole("calibration.batch_size", self.settings["calibration"]["batch_size"], 1)
        check_target(self.settings, found)
        with found.collecting():
            self.schedule = Schedule(**self.settings["schedule"])
        with found.collecting():
            self.gate = Gate(**self.settings["gate"])
        self.loggers = []
        for label, node in self.settings["logger"].items():
            with found.collecting():  # what one opens is opened when the run starts
                given = {"directory": self.directory, "config": self.published}
                self.loggers.append(build(f"logger '{label}'", RunObserver, node, **given))
        self._read_stages(found)
        self.refuse_costs_alone(found)
        self.refuse_checkpointing(found, any(stage.takes_gradients for stage in self.stages))

    def _read_stages(self, found: Problems) -> None:
        nodes = self.settings["stage"]
        self.stages = []
        for label, node in nodes.items():
            with found.collecting():
                stage: Stage = build(f"stage.{label}", Stage, node)
                self.stages.append(stage.labelled(str(label)))
        self._read_trainer(found)
        for stage in self.stages:
            self.refuse_precision(found, stage.told().get("precision"))
        found.check(
            bool(nodes), "stage= names no stage. Join one or more names with '+', as in stage=dare+nullu+alpha."
        )
        found.found.extend(order_problems(self.stages))
        if is_targeted(self.settings) and len(self.stages) == len(nodes) > 0:
            found.found.extend(target_problems(self.stages))

    def _read_trainer(self, found: Problems) -> None:
        """Put the stage that `trainer=` names after the others."""
        where, options = self.node("trainer")
        if TARGET not in options:  # trainer=none
            return
        name = self.settings["trainer"]["name"]
        with found.collecting():
            made = locate(where, options[TARGET], object)
            if not found.check(
                isinstance(made, type),
                f"trainer={name} makes a model from scratch, and job=compress compresses one that exists: train first,"
                f" `{command_line('job=train', f'trainer={name}')}`, then compress its checkpoint, model=clip"
                " model.path=<run>/checkpoint. To train what the stages left, take trainer=recover or trainer=distill.",
            ):
                return
            stage: Stage = build(where, Stage, options)
            taken = {other.label for other in self.stages}
            found.check(
                stage.method not in taken,
                f"trainer {name} and stage={'+'.join(taken)} both name '{stage.method}': leave one out.",
            )
            self.stages.append(stage.labelled(stage.method))

    def steps(self) -> list[Step]:
        """The plan of the run: those of stages that a target decides have no strength yet."""
        solved = solved_for(self.stages, self.settings["target_split"]) if is_targeted(self.settings) else ()
        return self.schedule.steps(self.stages, solved)

    def pipeline(
        self, observer: Observer | None = None, target: Target | None = None, abandon: Question | None = None
    ) -> RCCPipeline:
        """The cascade, with its state under the run's directory."""
        return RCCPipeline(
            self.stages,
            performance_threshold=self.gate.threshold,
            rollback_enabled=self.gate.rollback,
            tries=self.gate.tries,
            on_failure=self.gate.on_failure,
            on_error=self.gate.on_error,
            confidence=self.gate.confidence,
            on_chance=self.gate.on_chance,
            schedule=self.schedule,
            directory=self.directory / "state",
            keep_last=self.settings["state"]["keep_last"],
            seed=self.seed,
            storage_dtype=self.dtype,
            storage_entropy=self.entropy,
            fold=self.settings["fold"],
            target=target,
            observer=observer,
            abandon=abandon,
        )

    def observers(self) -> Observers:
        """Those who watch the run: the terminal, the metrics log, and what `logger=` adds."""
        return Observers([Console(), MetricsLog(self.directory)], loggers=self.loggers)

    @property
    def dtype(self) -> str:
        """Of the values the artifact stores."""
        return str(self.settings["export"]["dtype"])

    @property
    def entropy(self) -> str:
        """How the artifact's parts are entropy-coded: 'zstd' or 'none'."""
        return str(self.settings["export"]["entropy"])

    @property
    def container(self) -> str:
        """What the artifact is: a 'directory' or one 'file'."""
        return str(self.settings["export"]["container"])

    @property
    def artifact_path(self) -> Path:
        """Where the artifact is written."""
        return self.directory / (FILE if self.container == "file" else "artifact")

    def calibration(self, adapter: Adapter, split: Split) -> list[Batch] | None:
        """The calibration split as batches, prepared once; None when no stage would look at them. A single item is
        enough to compute with and too little to learn from, which is said."""
        learning = [stage.label for stage in self.stages if stage.uses_calibration]
        if not learning:
            return None
        if len(split) == 1:
            say(
                Terminal(highlight=False),
                f"data: the calibration split is a single item; {', '.join(learning)} will fit to that one alone, at"
                " the cost of all others. Take 128 or more (`data.calibration`).",
            )
        size = self.settings["calibration"]["batch_size"]
        return [self.batch(adapter, split, start) for start in range(0, len(split), size)]

    def training(self, adapter: Adapter, splits: Splits) -> TrainingSplit | None:
        """The training split for stages that learn from it; None when there is none of these."""
        return TrainingSplit(adapter, splits) if any(stage.needs_training for stage in self.stages) else None

    def batch(self, adapter: Adapter, split: Split, start: int = 0) -> Batch:
        """One calibration batch of `split`, from item `start` on."""
        end = start + self.settings["calibration"]["batch_size"]
        return batch_of(adapter, split, start, end, labels=True)


def check_target(settings: Mapping[str, Any], found: Problems) -> None:
    """Note what is wrong with `target_ratio` and `target_bytes`."""
    ratio, nbytes = settings["target_ratio"], settings["target_bytes"]
    found.check(
        ratio is None or (type(ratio) in (int, float) and math.isfinite(ratio) and ratio >= 1),
        f"target_ratio is {ratio}; it must be a number ≥ 1: how many times smaller than the dense model.",
    )
    whole = type(nbytes) is int or (type(nbytes) is float and nbytes.is_integer())
    found.check(
        nbytes is None or (whole and nbytes >= 1), f"target_bytes is {nbytes}; it must be a whole number ≥ 1, in bytes."
    )
    found.choice("target_split", settings["target_split"], SPLITS)
    found.check(
        None in (ratio, nbytes),
        "target_ratio and target_bytes are both given; one of them says how small the artifact is to be.",
    )


def is_targeted(settings: Mapping[str, Any]) -> bool:
    """Whether the run is to be of a size that was asked for."""
    return not (settings["target_ratio"] is None and settings["target_bytes"] is None)
