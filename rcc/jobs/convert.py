"""job=convert: a checkpoint becomes an artifact, an artifact a dense checkpoint or ONNX, with proof of outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from rcc.artifact.load import load
from rcc.artifact.manifest import is_artifact
from rcc.artifact.size import directory_bytes
from rcc.artifact.write import write_artifact
from rcc.atomic import new_directory, remove_directory
from rcc.conversion.dense import make_dense_, with_every_bias_
from rcc.conversion.onnx import check_installed, graphs_of, run_onnx, write_onnx
from rcc.conversion.parity import Parity, parities
from rcc.data.loading import batch_of
from rcc.data.splits import Splits
from rcc.errors import Problems, WorkError
from rcc.jobs.claim import claimed
from rcc.jobs.job import Job
from rcc.jobs.source import load_source
from rcc.jobs.subjects import DENSE, Subject, one_subject
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.registry import adapter_for
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.formats import MISSING, bytes_text
from rcc.reporting.tables import Table
from rcc.training.pretrain import save_checkpoint

ARTIFACT, HUGGINGFACE, ONNX = "artifact", "huggingface", "onnx"
FORMATS = {ARTIFACT: "artifact", HUGGINGFACE: "checkpoint", ONNX: "onnx"}
"""What can be written, and what its directory is called where `out` does not say."""


class Convert(Job):
    """Writes the model of `model=`, or of `artifact=`, in another format, loads it again from its files alone, and
    compares the outputs of both on items of the data's test split."""

    subject: Subject

    def read(self, found: Problems) -> None:
        super().read(found)
        settings = self.settings
        found.choice("to", settings["to"], FORMATS)
        if settings["to"] == ONNX:
            check_installed(found)
        said = [] if settings["to"] == ARTIFACT else self.overrides_of("export")
        found.check(not said, f"{', '.join(said)} has an effect with to=artifact alone. Leave it out.")
        found.whole("parity", settings["parity"], 3)
        for name in ("warn_below", "fail_below"):
            found.within(name, settings[name], "[0, 1]")
        if settings["out"] is not None:
            found.path("out", settings["out"])
        with found.collecting():
            several = "job=convert takes one artifact or checkpoint at a time."
            self.subject = one_subject(settings["artifact"], several)
        self.refuse_checkpointing(found, gradients=False)

    def run(self) -> None:
        """Write, load again, compare, tell.

        Raises:
            WorkError: the outputs are those of another model; what was written is removed.
        """
        terminal, settings = Terminal(highlight=False), self.settings
        with claimed(self):
            splits = self.data()
            model = self.subject.load(self).eval()
            target = Path(settings["out"] or self.directory / FORMATS[settings["to"]])
            with torch.inference_mode():
                batch = batch_of(model, splits.test, stop=settings["parity"])
                before = model.outputs(batch)
            started = perf_counter()
            after = self._written(model, target, batch, before, splits)
            seconds = perf_counter() - started
            found = parities(before, after)
            draw(terminal, table(found))
            source = settings["model"].get("path") if self.subject.kind == DENSE else self.subject.name
            was = f", {bytes_text(directory_bytes(source))} before" if source and Path(str(source)).exists() else ""
            say(terminal, f"{target}: {bytes_text(directory_bytes(target))}{was}, written and read in {seconds:.1f} s.")
            self._judge(found, target, terminal)
            say(terminal, _next(settings["to"], target))

    def _written(
        self, model: Adapter, target: Path, batch: Batch, before: Mapping[str, Tensor], splits: Splits
    ) -> Mapping[str, Tensor]:
        """Write the model, and give what comes out of what was written for the same items."""
        settings = self.settings
        if settings["to"] == ONNX:
            graphs = graphs_of(batch, before)
            with new_directory(target) as made:
                write_onnx(make_dense_(model), batch, graphs, made)
            return run_onnx(graphs, target, batch)
        if settings["to"] == ARTIFACT:
            write_artifact(model, target, settings["export"]["dtype"], entropy=settings["export"]["entropy"])
        else:
            self._write_checkpoint(model, target)
        as_checkpoint = {"name": adapter_for(target), "path": target} if not is_artifact(target) else {}
        again = load_source(as_checkpoint, "cpu") if as_checkpoint else load(target)
        again.module.to(model.device)
        with torch.inference_mode():
            return again.eval().outputs(batch_of(again, splits.test, stop=settings["parity"]))

    def _write_checkpoint(self, model: Adapter, target: Path) -> None:
        make_dense_(model)
        with tempfile.TemporaryDirectory() as files:
            model.save_files(Path(files))
            with_every_bias_(model, Path(files))
        save_checkpoint(model, target, {"made_from": "an artifact of rcc"})

    def _judge(self, found: list[Parity], target: Path, terminal: Terminal) -> None:
        warn, fail = self.settings["warn_below"], self.settings["fail_below"]
        for each in found:
            verdict = each.judged(warn, fail)
            if verdict == "fail":
                remove_directory(target)
                raise WorkError(
                    f"{each.name}: {each.lowest:.4f} is below fail_below={fail}, so that what was written is another"
                    f" model; {target} was removed. Take a wider export.dtype, or lower fail_below to keep it."
                )
            if verdict:
                say(terminal, f"WARNING: {each.name} comes to {each.lowest:.4f}, below warn_below={warn}.")


def table(found: list[Parity]) -> Table:
    """A line for each output."""
    rows = [
        (
            each.name,
            str(each.items),
            f"{each.cosine:.6f}",
            f"{each.least:.6f}",
            MISSING if each.centred is None else f"{each.centred:.6f}",
            f"{each.own:.1%}",
            f"{each.similarities:.6f}",
        )
        for each in found
    ]
    head = (
        "output",
        "items",
        "mean cosine",
        "least",
        "about the mean",
        "nearest to its own",
        "similarities' Pearson r",
    )
    return Table(head, tuple(rows))


def _next(to: str, target: Path) -> str:
    if to == ARTIFACT:
        return f"Use it: rcc.load({str(target)!r}), or make it smaller: rcc-run model=auto model.path={target}"
    if to == ONNX:
        graphs = ", ".join(sorted(path.name for path in target.glob("*.onnx")))
        return f"Use it: onnxruntime.InferenceSession of {graphs} in {target}; the processor's files lie beside."
    return f"Use it: transformers' from_pretrained({str(target)!r}), or rcc-run model=auto model.path={target}"
