"""job=evaluate: load artifacts and dense models as anyone would, and measure them on the test split, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from rcc.atomic import write_text
from rcc.data.loading import batch_of
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.jobs.claim import claimed
from rcc.jobs.job import Job
from rcc.jobs.subjects import ARTIFACT, DENSE, Subject, subjects_of
from rcc.measurement.interval import LEVEL
from rcc.measurement.paired import differences
from rcc.models.adapter import Adapter
from rcc.models.transformers.peer import library_seconds
from rcc.reporting.comparison import Column, comparison_csv, comparison_tables, legend, single_table
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.formats import bytes_text
from rcc.reporting.inference import runtime_lines, runtime_table
from rcc.reporting.items import FILE as ITEMS
from rcc.reporting.items import write_items
from rcc.reporting.tables import INTERVALS, notes_of
from rcc.runtime.optimise import RUNTIMES, optimise
from rcc.runtime.records import RuntimePlan

FILE, TABLE_FILE = "evaluation.json", "evaluation.csv"
LARGEST_BATCH = 32
WIDTH = 160  # of what is not a terminal: a table in a file is searched, not looked at


class Evaluate(Job):
    """Measures what `artifact=` names, each verified and loaded from its files alone; without it, the model of
    `model=`.

    Prints the metrics, beside those that an artifact's manifest recorded, and writes evaluation.json, evaluation.csv
    and items.json after every model. One model is in memory at a time, and the first beside it where costs
    are compared. With `runtime=` each is made fast on this machine first; of several, the first stays as it is stored.
    """

    subjects: Sequence[Subject] = ()

    def read(self, found: Problems) -> None:
        super().read(found)
        self.refuse_checkpointing(found, gradients=False)
        found.choice("runtime", self.settings["runtime"], RUNTIMES)
        with found.collecting():
            self.subjects = subjects_of(self.settings["artifact"])

    def run(self) -> None:
        """Measure each model, print the table and write the files."""
        terminal = Terminal(highlight=False)
        with claimed(self):
            splits = self.data()
            comparison = _Comparison(self, splits, terminal, len(self.subjects))
            for subject in self.subjects:
                comparison.add(subject)
            columns = comparison.columns
            _show(columns, self.settings["data"]["name"], terminal)
            say(
                terminal,
                f"Written in {self.directory}: {FILE} and {TABLE_FILE}, every number; {ITEMS}, what each evaluator "
                "found image by image: predictions, ranks, confusions.",
            )


def _show(columns: Sequence[Column], data: str, terminal: Terminal) -> None:
    """Print what was measured: one model with all digits, several side by side."""
    what = columns[0].name if len(columns) == 1 else f"{len(columns)} models"
    say(terminal, f"{what} on the test split of {data} ({columns[0].measured.samples} samples):")
    if len(columns) == 1:
        draw(terminal, single_table(columns[0]))
        say(terminal, f"Intervals are at {LEVEL:.0%}.")
    else:
        for line in legend(columns):
            say(terminal, line)
        if not terminal.is_terminal:
            terminal.width = WIDTH
        for table in comparison_tables(columns, terminal.width):
            draw(terminal, table)
        say(
            terminal,
            f"Differences are to (1). {INTERVALS} Bytes of '{DENSE}' are those of its directory in float32.",
        )
    for note in notes_of([column.measured for column in columns]):
        say(terminal, note)
    for column in columns:
        if column.kind == ARTIFACT:
            say(terminal, f"{column.name}: {bytes_text(column.nbytes)} on disk, every tensor's SHA-256 verified.")


def _optimise(model: Adapter, choice: str, split: Split, terminal: Terminal) -> RuntimePlan:
    """Put kernels in place as `runtime=` asks, chosen on up to 32 items of `split`, and print what was picked."""
    plan = optimise(model, batch_of(model, split, stop=LARGEST_BATCH), choice)
    for line in runtime_lines(plan):
        say(terminal, line)
    draw(terminal, runtime_table(plan))
    return plan


class _Comparison:
    """The columns so far, and the first model for as long as others are compared with it."""

    def __init__(self, job: Evaluate, splits: Splits, terminal: Terminal, count: int) -> None:
        self.job, self.splits, self.terminal, self.count = job, splits, terminal, count
        self.columns: list[Column] = []
        self.plans: dict[str, Any] = {}
        self._first: Adapter | None = None

    def add(self, subject: Subject) -> None:
        """Load and measure one more model, and write what is known so far.

        Raises:
            UserError: the model cannot be loaded, or lacks what an evaluator needs.
        """
        job, suite = self.job, self.job.suite
        assert suite is not None
        model, seconds, library = subject.load(job), None, None
        if suite.measures_costs:
            path = subject.checkpoint(job)
            library = None if path is None else library_seconds(path)
            del model  # the first load also imports libraries and fills the system's file cache
            start = perf_counter()
            model = subject.load(job)
            seconds = perf_counter() - start
        if subject.kind == DENSE:
            job.check_input(model, self.splits)
        nbytes = subject.nbytes(model, job.directory)
        if job.settings["runtime"] != "dense" and (self.columns or self.count == 1):
            suite.measure_before_optimising(model, self.splits.test)
            plan = _optimise(model, job.settings["runtime"], self.splits.calibration, self.terminal)
            self.plans[subject.name] = plan.to_json()
        try:
            measured = job.measure_all(model, self.splits, beside=self._first)
        except UserError as error:
            raise UserError(*(f"{subject.name}: {problem}" for problem in error.problems)) from error
        column = Column(subject.name, subject.kind, nbytes, seconds, measured, recorded=self._recorded(subject))
        column = replace(column, library_seconds=library)
        if self.columns:
            column = replace(column, differences=differences(measured, self.columns[0].measured))
        elif suite.measures_costs:
            self._first = model
        self.columns.append(column)
        self._write()

    def _recorded(self, subject: Subject) -> Mapping[str, float] | None:
        """What the run that wrote the artifact measured on this very test split; None, said why, if on another."""
        metrics = subject.metrics()
        if metrics is None:
            return None
        if metrics.get("data_fingerprint") != self.splits.fingerprint:
            say(
                self.terminal,
                f"{subject.name}: its own numbers were measured on other data or other splits, and are not compared.",
            )
            return None
        recorded = metrics.get("test")
        return recorded if isinstance(recorded, dict) else None

    def _write(self) -> None:
        directory = self.job.directory
        content = {
            "data": self.job.published["data"],
            "data_fingerprint": self.splits.fingerprint,
            "eval": self.job.published["eval"],
            "models": [column.to_json() for column in self.columns],
        }
        if self.plans:
            content["runtime"] = self.plans
        write_items(directory, self.splits.fingerprint, {column.name: column.measured for column in self.columns})
        write_text(directory / TABLE_FILE, comparison_csv(self.columns))
        write_text(directory / FILE, json.dumps(content, indent=2) + "\n")
