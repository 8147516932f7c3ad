"""Runs and sweeps as their files record them, written by hand: nothing is compressed, every number is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
DENSE_BYTES, DENSE_DISK = 2_500_000, 5_000_000
HOSTILE = """<script>alert("x")</script><img src=x onerror=alert(1)>'"&{{ 7*7 }}"""
"""A name that would run code in a page that does not escape it."""


def write_run(
    directory: Path,
    *typed: str,
    status: str = "finished",
    kept: float = 0.99,
    nbytes: int = 200_000,
    started: datetime = START,
    seconds: float = 30.0,
    fingerprint: str = "6a02",
    labels: Sequence[str] = ("dare", "quant"),
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    missed: str = "",
    result: bool = True,
) -> Path:
    """A run of two steps: `dare` kept at once, `quant` after an attempt that did not pass."""
    directory.mkdir(parents=True)
    end = started + timedelta(seconds=seconds)
    (directory / ".lock").touch()
    manifest: dict[str, Any] = {
        "format": 1,
        "status": status,
        "seed": 0,
        "attempts": [
            {
                "started": started.isoformat(),
                "finished": None if status == "running" else end.isoformat(),
                "status": status,
                "command": ["rcc-run", *typed],
            }
        ],
        "environment": {"git": {"commit": "abc123", "changed": False}, "cpu": "a processor", "threads": 2},
        "plan": [{"index": index, "label": label, "round": 1, "rounds": 1} for index, label in enumerate(labels, 1)],
        "data_fingerprint": fingerprint,
    }
    if status == "finished" and result:
        numbers = {"retention": kept, "bytes": nbytes}
        manifest["result"] = {"numbers": numbers, "missed": missed, "target_bytes": None, "primary": "accuracy"}
    (directory / "run.json").write_text(json.dumps(manifest))
    lines = _lines(kept, nbytes, labels, layers or {}, end, finished=status == "finished")
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def write_items(
    directory: Path, dense: Sequence[float], compressed: Sequence[float], fingerprint: str = "6a02"
) -> None:
    """What both models got of each item of the test split."""
    models = {
        name: {"zero_shot": {"per_image": {"accuracy": list(values)}, "labels": [1] * len(values)}}
        for name, values in (("dense", dense), ("compressed", compressed))
    }
    content = {"split": "test", "data_fingerprint": fingerprint, "models": models}
    (directory / "items.json").write_text(json.dumps(content))


def write_sweep(
    folder: Path,
    trials: Sequence[tuple[float, int]],
    space: Sequence[str] = ("stage.dare.target_sparsity=interval(0.1, 0.9)",),
    points: Sequence[Sequence[str]] | None = None,
    n_trials: int | None = None,
    **changed: Any,
) -> Path:
    """A search of finished trials, each by what it keeps and its bytes; gaps of a day after every tenth."""
    folder.mkdir(parents=True)
    record: dict[str, Any] = {
        **{"format": 1, "kind": "search", "fixed": ["experiment=pareto"], "space": list(space)},
        **{"objectives": ["retention:max", "bytes:min"], "constraints": [], "sampler": "tpe", "options": {}},
        **{
            "seed": 0,
            "first": [],
            "n_trials": len(trials) if n_trials is None else n_trials,
            "storage": "",
            "study": "",
        },
        **{"versions": {"git": {"commit": "abc123", "changed": False}}, "failed": {}},
    }
    (folder / "sweep.json").write_text(json.dumps(record | changed))
    for number, (kept, nbytes) in enumerate(trials):
        share = round(0.1 + 0.8 * number / max(len(trials) - 1, 1), 6)
        point = points[number] if points is not None else [f"stage.dare.target_sparsity={share}"]
        start = START + timedelta(minutes=number, days=number // 10)
        write_run(folder / str(number), *point, "experiment=pareto", kept=kept, nbytes=nbytes, started=start)
    return folder


def _lines(
    kept: float,
    nbytes: int,
    labels: Sequence[str],
    layers: Mapping[str, Mapping[str, Any]],
    end: datetime,
    finished: bool,
) -> list[dict[str, Any]]:
    time = end.isoformat()

    def line(name: str, value: float, step: int | None, stage: str, attempt: int | None = None, unit: str = "") -> Any:
        round = 1 if step else None
        where = {"step": step, "stage": stage, "round": round, "attempt": attempt}
        return {**where, "name": name, "value": value, "unit": unit, "time": time}

    dense = {"samples": 100, "accuracy": 0.98, "bytes": DENSE_BYTES, "nonzeros": 1_250_000, "seconds": 0.5}
    lines = [line(name, value, 0, "dense") for name, value in dense.items()]
    for step, label in enumerate(labels, 1):
        last = step == len(labels)
        if last:
            failed = {"retention": 0.5, "bytes": nbytes // 2, "strength": 0.99, "seconds": 2}
            lines += [line(name, value, step, label, 1) for name, value in failed.items()]
        size = nbytes if last else (nbytes + DENSE_BYTES) // 2
        found = {"retention": kept, "retention.low": kept - 0.01, "retention.high": kept + 0.01}
        found |= {"bytes": size, "nonzeros": 100_000, "seconds": 5.0}
        lines += [
            line(name, value, step, label, 2 if last else 1) for name, value in (found | {"strength": 0.9}).items()
        ]
        lines += [line(name, value, step, label) for name, value in (found | {"kept": 1.0, "unchanged": 0.0}).items()]
        for layer, told in layers.items():
            lines += [line(f"units.{layer}.{name}", value, step, label) for name, value in told.items()]
    if finished:
        measured = {"dense.accuracy": 0.99, "compressed.accuracy": 0.98, "difference.accuracy": -0.01}
        bounds = {"difference.accuracy.low": -0.02, "difference.accuracy.high": 0.005}
        sizes = {"artifact_bytes": nbytes, "dense_float32_bytes": DENSE_DISK, "retention": 0.9899}
        lines += [line(name, value, None, "artifact", unit="fraction") for name, value in (measured | bounds).items()]
        lines += [line(name, value, None, "artifact", unit="bytes") for name, value in sizes.items()]
    return lines
