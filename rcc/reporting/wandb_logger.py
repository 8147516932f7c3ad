"""W&B: a run's settings, the numbers of every stage, the artifact's manifest; offline without a key."""

from __future__ import annotations

import json
import netrc
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rcc.atomic import write_text
from rcc.cascade.records import Attempt, Baseline, Size, Step, StepRecord, Summary
from rcc.errors import Problems, WorkError
from rcc.measurement import Difference, Measurement, Metric
from rcc.reporting.delivery import Delivery
from rcc.reporting.observers import RunObserver
from rcc.sweeps.record import is_sweep

MODES = ("auto", "online", "offline", "disabled")
ID_FILE = "wandb-id"
CONNECT_SECONDS = 30.0
PRIVATE: dict[str, Any] = {
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "disable_git": True,
    "host": "",
    "program": "rcc-run",
}
"""What keeps W&B from recording the host, its user, paths and commands by itself: run.json says what matters."""


class WandbObserver(RunObserver):
    """Logs one run to Weights & Biases; a resumed run goes on under the same id.

    Args:
        directory: the run's directory; W&B's files go to its `wandb` folder.
        config: the composed configuration as nested mappings.
        project, entity, group, tags: where and under what the run is filed, named like its directory; the group of a
            sweep's job is the sweep where none is given, its job type the stages.
        mode: 'auto' is WANDB_MODE if that is set, else 'online' with a key (WANDB_API_KEY or the netrc file)
            and 'offline' without one; `wandb sync <directory>/wandb/offline-run-*` uploads that later.

    Raises:
        UserError: an unknown mode, or 'online' without a key.
        WorkError: from `run_started`, when the package is missing.
    """

    def __init__(
        self,
        directory: Path | str,
        config: Mapping[str, Any] | None = None,
        *,
        project: str = "rcc",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: str = "auto",
    ) -> None:
        problems = Problems("logger 'wandb'")
        problems.choice("mode", mode, MODES)
        problems.check(
            mode != "online" or _has_key(),
            "mode=online needs a key: `wandb login` stores one, WANDB_API_KEY holds one. mode=auto needs none.",
        )
        problems.done()
        self.directory = Path(directory)
        self.config = dict(config or {})
        self.mode = mode
        stages = "+".join(map(str, self.config.get("stage") or ()))
        self._filed = {"project": project, "entity": entity, "tags": list(tags), "job_type": stages or None}
        folder = self.directory.absolute().parent
        self._filed["group"] = group or ("/".join(folder.parts[-2:]) if is_sweep(folder) else None)
        if is_sweep(folder):
            self.config["sweep"] = {"id": folder.name, "trial": self.directory.name}
        self._layers: list[list[Any]] = []
        self._wandb: Any = None
        self._run: Any = None

    def run_started(self, steps: Sequence[Step], finished: int) -> None:
        self._wandb = _import_wandb()
        self._run = self._wandb.init(
            **self._filed,
            name="/".join(self.directory.absolute().parts[-2:]),  # <date>/<time>
            # W&B's own process, which all runs of this one share, may stand in another folder than the run.
            dir=str(self.directory.absolute()),
            id=_run_id(self.directory),
            resume="allow",
            mode=_mode(self.mode),
            config=self.config,
            # Its console capture would fight with the live display, and it is to print nothing itself.
            settings=self._wandb.Settings(silent=True, console="off", init_timeout=CONNECT_SECONDS, **PRIVATE),
        )
        self._run.define_metric("step/*", step_metric="step/index")
        self._run.summary["steps"] = [step.name for step in steps]

    def baseline_measured(self, baseline: Baseline) -> None:
        self._run.log(_numbers("step", 0, 1.0, baseline.size, baseline.measurement, baseline.seconds))

    def attempt_finished(self, step: Step, attempt: Attempt) -> None:
        """Every attempt, also one that was not kept."""
        name = f"attempt/{step.index:03d}-{step.label}/{attempt.number}"
        numbers = {"strength": attempt.strength, "retention": attempt.retention, "seconds": attempt.seconds}
        numbers["bytes"] = None if attempt.size is None else attempt.size.nbytes
        said = {f"{name}/{key}": value for key, value in numbers.items() if value is not None}
        self._run.summary.update(said | ({f"{name}/problem": attempt.problem} if attempt.problem else {}))

    def step_finished(self, record: StepRecord) -> None:
        step = record.step
        self._layers += [[step.index, step.label, name, json.dumps(facts)] for name, facts in record.touched.items()]
        numbers = (record.retention, record.size, record.measurement, record.seconds)
        memory = {"step/peak_memory": record.peak_bytes, "step/attempts": len(record.attempts)}
        self._run.log(_numbers("step", step.index, *numbers) | memory)
        stage = f"stage/{step.index:03d}-{step.label}"
        said = {f"{stage}/outcome": record.outcome, f"{stage}/round": step.round}
        if record.reason:
            said[f"{stage}/reason"] = record.reason
        self._run.summary.update(_numbers(stage, step.index, *numbers) | said)

    def run_finished(self, summary: Summary) -> None:
        total = {"retention": summary.retention, "seconds": summary.seconds, "bytes": summary.size.nbytes}
        total["times_smaller"] = summary.baseline.size.nbytes / max(1, summary.size.nbytes)
        self._run.summary.update(total)
        if summary.target is not None:
            self._run.summary.update(
                {"target/bytes": summary.target.nbytes, "target/rounds_repeated": summary.target.repeats}
            )
        self._run.summary["suggestions"] = list(summary.suggestions)
        if self._layers:
            columns = ["step", "stage", "layer", "facts"]
            self._run.log({"layers": self._wandb.Table(columns=columns, data=self._layers)})

    def delivered(self, delivery: Delivery) -> None:
        sizes = {f"disk/dense_{dtype}_bytes": nbytes for dtype, nbytes in delivery.dense_bytes.items()}
        self._run.summary.update({"disk/artifact_bytes": delivery.nbytes, "disk/dtype": delivery.dtype} | sizes)
        for side, measurement in (("dense", delivery.dense), ("compressed", delivery.compressed)):
            self._run.summary.update(_values(f"test/{side}", measurement))
        for name, apart in delivery.differences.items():
            self._run.summary.update(_with_ends(f"test/difference/{name}", apart))
        self._run.summary["test/retention"] = delivery.retention
        artifact = self._wandb.Artifact(f"manifest-{self._run.id}", type="compressed-model")
        path = Path(delivery.artifact)
        # Immutable: read where it lies, so that no copy is left in the user's data directory.
        artifact.add_file(str(path / "manifest.json" if path.is_dir() else path), policy="immutable")
        self._run.log_artifact(artifact)

    def close(self, failed: bool = False) -> None:
        """Finish the W&B run, so that the next job of a sweep starts its own."""
        if self._run is not None:
            self._run.finish(exit_code=1 if failed else 0)
            self._run = None


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise WorkError(
            f"the wandb package cannot be imported ({error}): `pip install 'rcc[wandb]'` installs it, and "
            "logger=local does without."
        ) from error
    return wandb


def _mode(asked: str) -> str:
    if asked != "auto":
        return asked
    return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")


def _has_key() -> bool:
    """Whether an API key is where W&B looks for one: the environment or a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in files:
        try:
            if netrc.netrc(file).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _run_id(directory: Path) -> str:
    """The id W&B knows this run by, kept in its directory so that every attempt uses the same."""
    path = directory / "wandb" / ID_FILE
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    path.parent.mkdir(exist_ok=True)
    write_text(path, secrets.token_hex(4) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _numbers(
    prefix: str, index: int, retention: float, size: Size, measurement: Measurement, seconds: float
) -> dict[str, Any]:
    """Metrics to log of a model after a step: `prefix`/name to value."""
    numbers = {
        "index": index,
        "retention": retention,
        "bytes": size.nbytes,
        "stored": size.stored,
        "nonzeros": size.nonzeros,
        "seconds": seconds,
    }
    return {f"{prefix}/{name}": value for name, value in numbers.items()} | _values(prefix, measurement)


def _values(prefix: str, measurement: Measurement) -> dict[str, float]:
    """`prefix`/name to value of every metric, and `prefix`/name.low and .high where it has an interval."""
    found: dict[str, float] = {}
    for metric in measurement.metrics:
        found |= _with_ends(f"{prefix}/{metric.name}", metric)
        if metric.standard_error is not None:
            found[f"{prefix}/{metric.name}.standard_error"] = metric.standard_error
    return found


def _with_ends(name: str, number: Metric | Difference) -> dict[str, float]:
    ends = {} if number.bounds is None else {f"{name}.low": number.bounds.low, f"{name}.high": number.bounds.high}
    return {name: number.value} | ends
