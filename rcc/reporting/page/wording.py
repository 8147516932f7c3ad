"""Put what a run's files say into words: its answer, its facts, its commands, its numbers with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.command_line import command_line
from rcc.measurement import Difference, Interval, Metric
from rcc.nested import leaves
from rcc.reporting.formats import (
    bytes_text,
    difference_text,
    interval_text,
    metric_text,
    ratio_text,
    seconds_text,
    share_text,
)
from rcc.reporting.recorded.numbers import Numbers, StepNumbers, Values
from rcc.reporting.recorded.run import LIVE, RecordedRun
from rcc.reporting.run_manifest import FINISHED

DENSE = "dense"
ENDS = (".standard_error", ".low", ".high")


@dataclass(frozen=True)
class Command:
    """A command line to copy, what it does, and what to know before it is run."""

    does: str
    line: str
    note: str = ""


def answer(run: RecordedRun) -> str:
    """What the run came to, in a sentence or two."""
    found = run.numbers.artifact
    dense, nbytes, kept = (found.get(name) for name in ("dense_float32_bytes", "artifact_bytes", "retention"))
    if run.status != FINISHED or nbytes is None:
        return _half_way(run)
    text = f"{run.choice('model', 'clip_tiny')} takes {bytes_text(round(nbytes))} on disk"
    if dense is not None:
        text += f", {dense / nbytes:.2f} times less than {bytes_text(round(dense))} in float32,"
    text += f" and keeps {share_text(kept)} of the dense model's {run.primary or 'quality'} on the test split"
    before, after = (metrics(run.numbers, f"{which}.").get(run.primary) for which in (DENSE, "compressed"))
    if before is not None and after is not None:
        text += f": {metric_text(after)} after {metric_text(before)}"
        apart = difference(run, after.name)
        text += f", a change of {changed_text(after, apart)}" if apart is not None else ""
    text += "."
    return f"{text} Its target in bytes was missed: {run.missed}" if run.missed else text


def facts(run: RecordedRun) -> list[tuple[str, str]]:
    """What the run was, a line each."""
    git = run.environment.get("git")
    commit = (
        str(git.get("commit", ""))[:12] + (", changed" if git.get("changed") else "") if isinstance(git, dict) else ""
    )
    told = [
        ("directory", str(run.directory)),
        ("status", run.status),
        ("started", f"{run.started:%Y-%m-%d %H:%M} UTC" if run.started else ""),
        ("took", seconds_text(run.seconds) if run.seconds else ""),
        ("seed", run.seed),
        ("code", commit),
        ("processor", str(run.environment.get("cpu", ""))),
        ("threads", str(run.environment.get("threads", ""))),
    ]
    return [(name, text) for name, text in told if text]


def commands(run: RecordedRun) -> list[Command]:
    """How to run it again, to go on with it, and to draw its page again."""
    note = "It names code to run: paste it only if you trust who wrote this directory." if run.names_code else ""
    found = [Command("run it again", run.repeat, note)] if run.repeat else []
    if run.resume and run.status != LIVE:
        found.append(Command("go on where it was stopped", run.resume, note))
    return [*found, redraw(str(run.directory))]


def told_settings(run: RecordedRun, silent: Sequence[str] = ()) -> dict[str, str]:
    """The published configuration without the groups that are `silent`, and what the run ran on, by dotted names; none
    of a file that nests them without end."""
    settings = {name: value for name, value in run.settings.items() if name not in silent}
    try:
        found = leaves({"environment": run.environment, **settings})
    except RecursionError:
        return {}
    return {name: _plain(value) for name, value in found.items()}


def redraw(*places: str) -> Command:
    """How to draw a page again."""
    return Command("draw this page again", command_line("job=report", f"runs=[{','.join(places)}]"))


def metrics(numbers: Numbers, prefix: str) -> dict[str, Metric]:
    """The metrics of a model on the test split, by name, each with its unit, and its interval where it has one."""
    found = {}
    for name, value in numbers.artifact.items():
        if name.startswith(prefix) and not name.endswith(ENDS):
            short, unit = name.removeprefix(prefix), numbers.units.get(name, "")
            found[short] = Metric(short, value, unit, interval=interval(numbers.artifact, name))
    return found


def interval(values: Values, name: str) -> Interval | None:
    """The recorded interval of a number."""
    low, high = values.get(f"{name}.low"), values.get(f"{name}.high")
    return Interval(low, high) if low is not None and high is not None and low <= high else None


def kept_text(kept: float | None, bounds: Interval | None) -> str:
    """A retention with its interval, in percent."""
    text = share_text(kept)
    return f"{text} ({interval_text(bounds, Metric('retention', 1.0, 'fraction'))})" if bounds is not None else text


def step_name(step: StepNumbers) -> str:
    return f"{step.index}. {step.label}" + (f" (round {step.round})" if step.round else "")


def difference(run: RecordedRun, name: str) -> Difference | None:
    """What a metric changed by from the dense to the compressed model, on the same items."""
    values, key = run.numbers.artifact, f"difference.{name}"
    return Difference(values[key], None, interval(values, key)) if key in values else None


def changed_text(metric: Metric, apart: Difference) -> str:
    """A change in the metric's unit, with its interval."""
    told = difference_text(metric, apart)
    return told if apart.bounds is None else f"{told} ({interval_text(apart.bounds, metric, signed=True)})"


def _half_way(run: RecordedRun) -> str:
    done, total = run.numbers.done, len(run.plan)
    if not total:
        return f"{run.name}: {run.status}. It is no compression; what it came to is in its own files."
    if run.abandoned:
        return f"{run.name}: its search abandoned it {run.abandoned}."
    text = f"{run.name}: {run.status} after {len(done)} of {total} steps"
    if not done:
        return f"{text}; nothing is known of what it would come to."
    last, dense = done[-1].values, run.numbers.dense
    size = f"its weights take {bytes_text(round(last.get('bytes', 0)))}"
    if dense.get("bytes"):
        size += f" ({ratio_text(round(dense['bytes']), round(last.get('bytes', 0)))} smaller than the dense ones)"
    return f"{text}; so far {size} and it keeps {share_text(last.get('retention'))} on the selection split."


def _plain(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
