"""job=compress: dense model in, cascade over it, artifact out, reloaded and measured, with a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, repeat
from typing import Self

import torch

from rcc.cascade.abandonment import AbandonedError
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.records import Summary
from rcc.command_line import command_line
from rcc.data.splits import Splits
from rcc.jobs.claim import claimed, finished
from rcc.jobs.compression import Compression
from rcc.jobs.deliver import deliver, provenance
from rcc.jobs.early_stopping import question
from rcc.jobs.job import Abandonment
from rcc.jobs.pages import draw_page, keep_pictures
from rcc.jobs.plan import show_plan
from rcc.jobs.target import target_of
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter
from rcc.models.device import pick_device
from rcc.reporting.delivery import Delivery
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.observers import Observers
from rcc.reporting.report import ReportContent, write_report
from rcc.reporting.run_manifest import environment, note_abandoned, note_data, note_result, read_run_manifest
from rcc.shared import FOLDER, Shelf, sharing
from rcc.sweeps.record import is_sweep


class Objectives(tuple[float, float]):
    """(retention on the selection split, bytes of the artifact), what a sweep optimises.

    Attributes:
        missed: why the target was not met; empty where it was, or where there was none.
        target: that target in bytes.
        costs: what the model costs to run, by metric, where `eval=` measures that.
    """

    missed: str
    target: int | None
    costs: Mapping[str, float]

    def __new__(
        cls,
        retention: float,
        nbytes: float,
        missed: str = "",
        target: int | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> Self:
        both = super().__new__(cls, (retention, nbytes))
        both.missed, both.target, both.costs = missed, target, costs or {}
        return both

    @property
    def numbers(self) -> dict[str, float]:
        """All of them by name."""
        return {"retention": self[0], "bytes": self[1], **self.costs}


class Compress(Compression):
    """Runs the stages in order behind the gate, and delivers what they left."""

    def run(self) -> Objectives | Abandonment | None:
        """Run the cascade, or what is left of it, and deliver; or only show the plan.

        Returns:
            The objectives of a sweep, or why its search stopped the run early; None when there was nothing left to do.
        """
        if self.settings["dry_run"]:
            show_plan(self)
            return None
        if finished(self):
            print(self._told_finished())
            return None
        with (
            claimed(self, plan=self.steps(), makes=[self.artifact_path]),
            self.observers() as observers,
            sharing(self._shelf()) as shelf,
        ):
            splits = self.data()
            note_data(self.directory, splits.fingerprint)
            model = self.model()
            if not self.resumed:
                self.check_input(model, splits)
            target = target_of(self.settings, self.published, model, self.directory, provenance(splits))
            assert self.suite is not None
            # By the dense model, also where a resumed run goes on from a compressed one.
            self.suite.fit_batches(model, splits.selection, splits)
            pipeline = self.pipeline(observers, target, question(self, model, target))
            result: Objectives | Abandonment
            try:
                pipeline.run(
                    model,
                    self._validator(splits),
                    self.calibration(model, splits.calibration),
                    training=self.training(model, splits),
                    resume=self.resumed,
                )
            except AbandonedError as end:
                result = Abandonment(f"after step {end.step} of {len(self.steps())}: {end.reason}")
                note_abandoned(self.directory, result.abandoned)
                say(Terminal(highlight=False), f"Abandoned {result.abandoned}.")
            else:
                result = self._delivered(pipeline, model, splits, observers)
            if shelf is not None and shelf.told:
                say(Terminal(highlight=False), shelf.told)
        draw_page(self.directory)  # after run.json says how the run ended
        return result

    def _delivered(self, pipeline: RCCPipeline, model: Adapter, splits: Splits, observers: Observers) -> Objectives:
        """Write and measure the artifact, and the report of it."""
        summary = pipeline.get_pipeline_summary()
        delivery = deliver(self, pipeline, model, splits)
        observers.delivered(delivery)
        write_report(self.directory, self._report(summary, delivery))
        objectives = _objectives(summary, delivery)
        primary = delivery.dense.primary
        note_result(self.directory, objectives.numbers, objectives.missed, objectives.target, primary)
        keep_pictures(self.directory, splits, delivery)
        return objectives

    def _told_finished(self) -> str:
        if reason := read_run_manifest(self.directory).get("abandoned"):
            return (
                f"{self.directory} is a trial that its search abandoned {reason}. Nothing was done; to see it through, "
                f"start a run of its own: {command_line(*self.overrides)}"
            )
        return (
            f"{self.directory} has already finished: its report is {self.directory / 'report.md'}, its artifact "
            f"{self.artifact_path}. Nothing was done; start a fresh run to compress again."
        )

    def _shelf(self) -> Shelf | None:
        """What this run shares with the other trials of its sweep; None for a run alone."""
        if not is_sweep(self.directory.absolute().parent):
            return None
        device = pick_device(str(self.settings["device"]))
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        here = environment(torch.get_num_threads())
        return Shelf(self.directory.parent / FOLDER, {**here, "device": name, "model": self.settings["model"]})

    def _validator(self, splits: Splits) -> Callable[[Adapter], Measurement]:
        """Measures models on the selection split; the first of a fresh run is the dense one."""
        ways = chain([] if self.resumed else [self.measure_dense], repeat(self.measure))
        return lambda adapter: next(ways)(adapter, splits.selection, splits)

    def _report(self, summary: Summary, delivery: Delivery) -> ReportContent:
        stages = " → ".join(stage.label for stage in self.stages)
        return ReportContent(
            title=f"{stages} on {self.settings['model']['name']}, {self.settings['data']['name']}",
            command=command_line(*self.overrides),
            summary=summary,
            delivery=delivery,
            settings=self.published,
            seed=self.seed,
            environment=read_run_manifest(self.directory)["environment"],
        )


def _objectives(summary: Summary, delivery: Delivery) -> Objectives:
    outcome = delivery.target
    # One that is smaller than asked, because its steps are the finest there are, lost nothing by it.
    missed = outcome.reason if outcome is not None and delivery.nbytes > outcome.nbytes else ""
    # The test split decides nothing: of what was measured on it only costs count, which know no answers.
    quality = {metric.name for metric in summary.baseline.measurement.metrics}
    costs = {metric.name: metric.value for metric in delivery.compressed.metrics if metric.name not in quality}
    target = None if outcome is None else outcome.nbytes
    return Objectives(summary.retention, float(delivery.nbytes), missed, target, costs)
