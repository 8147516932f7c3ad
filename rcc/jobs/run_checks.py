"""Check what runs and sweeps left: records that can be read, and artifacts byte for byte."""

from __future__ import annotations

from pathlib import Path

from rcc.artifact.verify import verify
from rcc.errors import RccError
from rcc.reporting.recorded.finding import Found
from rcc.reporting.recorded.run import RecordedRun, artifact_in
from rcc.reporting.run_manifest import FINISHED


def faults(found: Found) -> list[str]:
    """Everything that is wrong with a run, or with a sweep and its trials; empty where nothing is."""
    if found.record is None:
        return [found.problem]
    if found.run is not None:
        return _of_run(found.run)
    assert found.sweep is not None
    told = []
    for trial in found.sweep.trials:
        problems = [trial.problem] if trial.run is None else _of_run(trial.run)
        told += [f"trial {trial.number}: {problem}" for problem in problems]
    return told


def _of_run(run: RecordedRun) -> list[str]:
    told = list(run.problems)
    path = artifact_in(run.directory)
    if path is None:
        due = run.status == FINISHED and run.job == "compress"
        return [*told, "it has finished, and its artifact is not there"] if due else told
    problem = _of_artifact(path)
    return [*told, problem] if problem and problem not in told else told


def _of_artifact(path: Path) -> str:
    try:
        verify(path)
    except (OSError, RccError) as error:
        return str(error)
    return ""
