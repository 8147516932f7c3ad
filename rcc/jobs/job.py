"""Define a job of the command line: a class that reads and checks its own settings, and then does its work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from rcc.command_line import command_line, key_of
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, abridged, text_fault
from rcc.evaluation.embeddings.fingerprint import Fingerprinter
from rcc.evaluation.suite import Suite, load_suite
from rcc.jobs.input_check import likelier_normalisation
from rcc.jobs.source import described, load_artifact, load_source
from rcc.learning.precision import PRECISIONS, precision_of
from rcc.learning.processes import check_launch, launched
from rcc.limits import set_limits
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.models.device import pick_device
from rcc.models.own.network import NetworkAdapter
from rcc.models.registry import loader_class
from rcc.plugins import TARGET, build, checked
from rcc.reporting.drawing import Terminal, say
from rcc.shared import shared

MEASURING = ("data", "eval", "debug", "device", "threads", "limits")
"""What decides the numbers of a measurement beside the model: groups and options."""


@dataclass(frozen=True)
class Abandonment:
    """What a trial comes to that its search stopped early: after which step, and why."""

    abandoned: str


class Job(ABC):
    """A job's inputs, and what jobs share: they load models and data, and measure the ones on the others.

    Args:
        settings: the whole config as plain data; each group that has a choice has its `name`.
        directory: the run's.
        overrides: the command line's, one each.
        config_text: the config as YAML.
        published: the settings as others may see them, in manifests, reports and W&B: with what was typed in place of a
            value that came out of the environment.

    Raises:
        UserError: everything that is wrong with the settings.
    """

    resumes: ClassVar[bool] = False
    """Whether `resume=` continues it."""
    shared: ClassVar[bool] = False
    """Whether several processes can do it together."""

    def __init__(
        self,
        settings: dict[str, Any],
        directory: Path = Path(),
        overrides: Sequence[str] = (),
        config_text: str = "",
        published: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.directory, self.overrides = settings, directory, overrides
        self.published = settings if published is None else published
        self.config_text = config_text
        self.suite: Suite | None = None
        self.chosen_model = ""
        """What model=auto came to, as a sentence."""
        found = Problems()
        _check_texts(self.settings, found)
        found.done()  # nothing is built of texts that no file can hold
        with found.collecting():
            set_limits(settings.get("limits", {}))
        self.read(found)
        found.done()

    @abstractmethod
    def run(self) -> tuple[float, float] | Abandonment | None:
        """Do the work.

        Returns:
            What a sweep looks at, where there is such a thing: (retention on the selection split, bytes), or why there
            are none.

        Raises:
            UserError: an input that turns out wrong.
            WorkError: the work failed.
        """

    def read(self, found: Problems) -> None:
        """Build what the settings describe, and note in `found` all that is wrong with them."""
        found.whole("seed", self.settings["seed"], 0)
        if found.check(
            self.shared or launched() == 1,
            f"{type(self).__name__.lower()} was launched as {launched()} processes, and runs in one: each would do the"
            " same. Start it by rcc-run alone; job=train is what several can do together.",
        ):
            check_launch(found)
        if self.settings["threads"] is not None:
            found.whole("threads", self.settings["threads"], 1)
        with found.collecting():
            pick_device(str(self.settings["device"]))
        if "model" in self.settings:
            self._read_model(found)
        if "data" in self.settings:
            where, options = self.node("data")
            with found.collecting():
                checked(where, Splits, options)
        if "eval" in self.settings:
            with found.collecting():
                self.suite = load_suite(self.settings["eval"])

    def _read_model(self, found: Problems) -> None:
        options = self.settings["model"]
        path = options.get("path")
        if path is not None and not isinstance(path, str):
            kind = type(path).__name__
            found.check(False, f"model.path is {path}, which YAML reads as a {kind}; write model.path=./{path}.")
            return
        if path is not None and not found.path("model.path", path):
            return
        with found.collecting():
            self.settings["model"], self.chosen_model = described(options)
            loader_class(self.settings["model"]["name"], self.settings["model"].get(TARGET))

    def node(self, group: str) -> tuple[str, dict[str, Any]]:
        """How messages call the choice of a group, and its import path with its options."""
        options = dict(self.settings[group])
        return f"{group} '{options.pop('name')}'", options

    @property
    def resumed(self) -> bool:
        return bool(self.settings.get("resume"))

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    def overrides_of(self, *groups: str) -> list[str]:
        """What the command line said of these config groups, for the next command to say again."""
        return [given for given in self.overrides if key_of(given).split(".")[0] in groups]

    def model(self) -> Adapter:
        """The model of `model=`, loaded to the device that was asked for; what it has to say is printed."""
        model = load_source(self.settings["model"], self.settings["device"])
        for note in filter(None, (self.chosen_model, *model.notes)):
            say(Terminal(highlight=False), f"model: {note}")
        return model

    def check_input(self, model: Adapter, splits: Splits) -> None:
        """Print a warning where the model does clearly better on pixels that are normalised otherwise, and what else is
        to be said of it on such data."""
        for found in filter(None, (likelier_normalisation(model, splits), model.caveat(splits.calibration.fields))):
            say(Terminal(highlight=False), f"model: {found}")

    def artifact(self, directory: Path | str) -> Adapter:
        """The model of an artifact, verified, on the device that was asked for."""
        return load_artifact(directory, self.settings["model"], device=self.settings["device"])

    def data(self) -> Splits:
        """The splits; what their loader has to say about them is printed."""
        where, options = self.node("data")
        splits: Splits = build(where, Splits, options)
        for note in splits.notes:
            say(Terminal(highlight=False), f"data: {note}")
        return splits

    def measure(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """How good the model is on one split, without what it costs to run."""
        assert self.suite is not None
        return self.suite.evaluate(adapter, split, splits, final=False)

    def measure_dense(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """As `measure`, of the model that all trials of a sweep begin with: one of them computes it."""

        def decides() -> dict[str, Any] | None:
            assert self.suite is not None
            model = Fingerprinter()(adapter) if self.suite.is_pure else None
            if model is None or not model.portable:
                return None
            return {"model": model.checksum, "data": splits.fingerprint, "eval": self.settings["eval"]}

        what = f"the dense model on the {split.name} split"
        return Measurement.from_json(shared(what, decides, lambda: self.measure(adapter, split, splits).to_json()))

    def measure_all(self, adapter: Adapter, splits: Splits, beside: Adapter | None = None) -> Measurement:
        """Everything that `eval=` names, on the test split; costs are compared with those of `beside`."""
        assert self.suite is not None
        return self.suite.evaluate(adapter, splits.test, splits, beside=beside)

    def refuse_costs_alone(self, found: Problems) -> None:
        """Note a problem where the first evaluator does not say how good a model is."""
        if self.suite is not None:
            found.check(not self.suite.leads_with_costs, self.suite.costs_alone())

    def refuse_checkpointing(self, found: Problems, gradients: bool) -> None:
        """Note a problem where activations are to be recomputed in backward passes that the job does not run."""
        found.check(
            gradients or not self.settings["model"].get("gradient_checkpointing"),
            "model.gradient_checkpointing=true has no effect: what is asked runs no backward pass. Leave it out. Of the"
            " stages, dare with allocation=sensitivity or score=taylor|fisher runs one, and alpha where it learns.",
        )

    def refuse_precision(self, found: Problems, precision: object) -> None:
        """Note a problem where forward passes cannot compute in `precision` on the device that was asked for."""
        with found.collecting():
            if precision in PRECISIONS:
                precision_of(str(precision), pick_device(str(self.settings["device"])))

    @property
    def measures_costs(self) -> bool:
        """Whether `eval=` says what a model costs beside another."""
        return self.suite is not None and self.suite.measures_costs

    def command_to_measure(self, artifact: Path) -> str:
        """The command line that measures an artifact of this run again: on its data, by its evaluators, and where the
        code of the model is the user's own, with that."""
        kind = loader_class(self.settings["model"]["name"], self.settings["model"].get(TARGET))
        own = issubclass(kind, NetworkAdapter) or not kind.__module__.startswith("rcc.")
        said = self.overrides_of(*MEASURING, *(["model"] if own else []))
        return command_line("job=evaluate", f"artifact={artifact}", *said)

    def set_threads(self, recorded: int | None = None) -> int:
        """Use the threads asked for, else those of the run's first attempt, since their number moves last bits."""
        wanted = self.settings["threads"] or recorded
        if wanted:
            torch.set_num_threads(wanted)
        return torch.get_num_threads()


def _check_texts(settings: Any, found: Problems, option: str = "") -> None:
    """Note each text among the settings that no file or terminal can hold; its option as it is typed."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            _check_texts(value, found, f"{option}.{key}" if option else str(key))
    elif isinstance(settings, list):
        for value in settings:
            _check_texts(value, found, option)
    elif isinstance(settings, str):
        fault = text_fault(settings)
        found.check(not fault, f"{option} '{abridged(settings)}' {fault}.")
