"""Hold a job's inputs: the objects the config described, and the settings they came from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console as Terminal

from rcc.cascade.bytes.balance import solved_for
from rcc.cascade.bytes.budget import Target
from rcc.cascade.gate import Gate
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.records import Observer, Step
from rcc.cascade.schedule import Schedule
from rcc.data.loading import batch_of
from rcc.data.registry import load_data
from rcc.data.splits import Split, Splits
from rcc.evaluation.suite import Suite
from rcc.jobs.source import load_artifact, load_source
from rcc.layers.model import Batch
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.reporting.drawing import say
from rcc.stages.base import Stage

MEASURING = ("data", "eval", "debug", "device", "threads")
"""What decides the numbers of a measurement beside the model: groups and options."""


@dataclass(frozen=True)
class Request:
    """A job's inputs. `settings` is the whole config as plain data, `config_text` the same as YAML."""

    settings: dict[str, Any]
    directory: Path
    overrides: Sequence[str]
    stages: list[Stage]
    schedule: Schedule
    gate: Gate
    suite: Suite | None
    config_text: str

    @property
    def resumed(self) -> bool:
        return bool(self.settings["resume"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def dtype(self) -> str:
        """Of the values the artifact stores."""
        return str(self.settings["export"]["dtype"])

    @property
    def entropy(self) -> str:
        """How the artifact's parts are entropy-coded: 'zstd' or 'none'."""
        return str(self.settings["export"]["entropy"])

    def said_of(self, *groups: str) -> list[str]:
        """What the command line said of these config groups, for the next command to say again."""
        return [given for given in self.overrides if given.lstrip("+~").partition("=")[0].split(".")[0] in groups]

    def steps(self) -> list[Step]:
        """The plan of the run: those of stages that a target decides have no strength yet."""
        targeted = any(self.settings[name] is not None for name in ("target_ratio", "target_bytes"))
        return self.schedule.steps(
            self.stages, solved_for(self.stages, self.settings["target_split"]) if targeted else ()
        )

    def model(self) -> Adapter:
        """The dense model, loaded to the device that was asked for."""
        return load_source(self.settings["model"], self.settings["device"])

    def artifact(self, directory: Path | str) -> Adapter:
        """The model of an artifact, verified, on the device that was asked for."""
        return load_artifact(directory, self.settings["model"], device=self.settings["device"])

    def data(self) -> Splits:
        """The splits; what their loader has to say about them is printed."""
        options = dict(self.settings["data"])
        splits = load_data(options.pop("name"), **options)
        for note in splits.notes:
            say(Terminal(highlight=False), f"data: {note}")
        return splits

    def measure(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """How good the model is on one split, without what it costs to run."""
        assert self.suite is not None
        return self.suite.evaluate(adapter, split, splits, final=False)

    def measure_all(self, adapter: Adapter, splits: Splits, beside: Adapter | None = None) -> Measurement:
        """Everything that `eval=` names, on the test split; costs are compared with those of `beside`."""
        assert self.suite is not None
        return self.suite.evaluate(adapter, splits.test, splits, beside=beside)

    @property
    def measures_costs(self) -> bool:
        """Whether `eval=` says what a model costs beside another."""
        return self.suite is not None and self.suite.measures_costs

    def command_to_measure(self, artifact: Path) -> str:
        """The command line that measures an artifact of this run again: on its data, by its evaluators, and where the
        code of the network is the user's own, with that."""
        said = self.said_of(*MEASURING, *(["model"] if self.settings["model"]["name"] == "module" else []))
        return shlex.join(["rcc-run", "job=evaluate", f"artifact={artifact}", *said])

    def pipeline(self, observer: Observer | None = None, target: Target | None = None) -> RCCPipeline:
        """The cascade, with its state under the run's directory."""
        return RCCPipeline(
            self.stages,
            performance_threshold=self.gate.threshold,
            rollback_enabled=self.gate.rollback,
            tries=self.gate.tries,
            on_failure=self.gate.on_failure,
            on_error=self.gate.on_error,
            schedule=self.schedule,
            directory=self.directory / "state",
            keep_last=self.settings["state"]["keep_last"],
            seed=self.seed,
            storage_dtype=self.dtype,
            storage_entropy=self.entropy,
            target=target,
            observer=observer,
        )

    def calibration(self, adapter: Adapter, split: Split) -> list[Batch] | None:
        """The calibration split as batches, prepared once; None when no stage would look at them."""
        if not any(stage.uses_calibration for stage in self.stages):
            return None
        size = self.settings["calibration"]["batch_size"]
        return [self.batch(adapter, split, start) for start in range(0, len(split), size)]

    def batch(self, adapter: Adapter, split: Split, start: int = 0) -> Batch:
        """One calibration batch of `split`, from item `start` on."""
        end = start + self.settings["calibration"]["batch_size"]
        return batch_of(adapter, split, start, end, labels=True)

    def set_threads(self, recorded: int | None = None) -> int:
        """Use the threads asked for, else those of the run's first attempt, since their number moves last bits."""
        wanted = self.settings["threads"] or recorded
        if wanted:
            torch.set_num_threads(wanted)
        return torch.get_num_threads()
