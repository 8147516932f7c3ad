"""job=evaluate: load an artifact (or a dense model) as anyone would, and measure it on the test split."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console as Terminal

from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest
from rcc.artifact.size import directory_bytes
from rcc.atomic import write_text
from rcc.data.splits import Splits
from rcc.jobs.claim import claimed
from rcc.jobs.inference import Inference
from rcc.jobs.request import Request
from rcc.measurement import Measurement
from rcc.models.device import pick_device
from rcc.reporting.drawing import draw, say
from rcc.reporting.formats import bytes_text, metric_text
from rcc.reporting.tables import Table

FILE = "evaluation.json"


def evaluate(request: Request) -> None:
    """Measure what `artifact=` names, verified and loaded from its files alone; without it, the model of `model=`.

    Prints the metrics beside those the artifact's manifest recorded, and writes evaluation.json. With `runtime=` the
    model is made fast on this machine first, and its speed is measured beside the dense model's.
    """
    artifact = request.settings["artifact"]
    terminal = Terminal(highlight=False)
    with claimed(request):
        splits = request.data()
        recorded = None
        if artifact is None:
            model, what = request.model(), request.settings["model"]["name"]
        else:
            recorded = _recorded(read_manifest(artifact).metrics, splits, terminal)
            model, what = load(artifact), str(artifact)
            model.module.to(pick_device(request.settings["device"]))
        inference = None
        if request.settings["runtime"] != "dense":
            inference = Inference(request, model, splits.calibration, terminal)
            inference.speed_up()
        measured = request.measure_all(model, splits)
        say(terminal, f"{what} on the test split of {request.settings['data']['name']} ({measured.samples} samples):")
        draw(terminal, _table(measured, recorded))
        if artifact is not None:
            say(terminal, f"{bytes_text(directory_bytes(artifact))} on disk, every tensor's SHA-256 verified.")
        if inference is not None:
            inference.compare()
        content = {"evaluated": what, "data": request.settings["data"], "measurement": measured.to_json()}
        if inference is not None:
            content["runtime"] = inference.content
        write_text(request.directory / FILE, json.dumps(content, indent=2) + "\n")
        say(terminal, f"Written: {request.directory / FILE}")


def _recorded(metrics: dict[str, Any], splits: Splits, terminal: Terminal) -> dict[str, float] | None:
    """What the run that wrote the artifact measured on this very test split; None, said why, if on another."""
    if metrics.get("data_fingerprint") != splits.fingerprint:
        say(terminal, "The artifact's own numbers were measured on other data or other splits, and are not compared.")
        return None
    recorded = metrics.get("test")
    return recorded if isinstance(recorded, dict) else None


def _table(measured: Measurement, recorded: dict[str, float] | None) -> Table:
    """Each metric with its standard error, all digits, and what the run that wrote the artifact had measured."""
    head = ("metric", "value", "all digits", "recorded", "the same")
    rows = []
    for metric in measured.metrics:
        before = (recorded or {}).get(metric.name)
        same = "-" if before is None else "yes" if before == metric.value else "no"
        rows.append(
            (
                metric.name,
                metric_text(metric, error=True),
                repr(metric.value),
                "-" if before is None else repr(before),
                same,
            )
        )
    return Table(head, tuple(rows))
