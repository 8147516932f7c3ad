"""Gather what the page of a sweep shows, from the files of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcc.reporting.formats import MISSING, bytes_text, ratio_text, seconds_text, share_text
from rcc.reporting.page.comparable import Entry, Group, entry_of, grouped, kept_of
from rcc.reporting.page.coordinates import Coordinates, Through, coordinates
from rcc.reporting.page.figures import Cell, Grid, Stack, bytes_cell, lengths, share_cell
from rcc.reporting.page.importance import LEAST_TRIALS, importances
from rcc.reporting.page.timeline import Timeline, Work, timeline
from rcc.reporting.page.wording import Command, redraw
from rcc.reporting.recorded.numbers import number_of
from rcc.reporting.recorded.run import LIVE, end_of
from rcc.reporting.recorded.sweep import RecordedSweep, RecordedTrial
from rcc.reporting.run_manifest import FAILED, FINISHED

RETENTION, BYTES = "retention", "bytes"


@dataclass(frozen=True)
class SweepView:
    """The page of a sweep."""

    sweep: RecordedSweep
    answer: str
    facts: list[tuple[str, str]]
    groups: list[Group]
    trials: Grid
    importance: Stack | None
    unweighed: str
    parallel: Coordinates | None
    times: Timeline | None
    commands: list[Command]
    problems: list[str]


def sweep_view(sweep: RecordedSweep) -> SweepView:
    """Everything of one sweep."""
    entries = [entry for trial in sweep.trials if trial.done and (entry := _entry(trial)) is not None]
    groups = grouped(entries)
    front = {key for group in groups for key in group.front}
    weighed, unweighed = _importance(sweep)
    return SweepView(
        sweep,
        answer(sweep, groups),
        _facts(sweep),
        groups,
        _trials(sweep, entries, front),
        weighed,
        unweighed,
        _parallel(sweep, entries, front),
        timeline(_works(sweep)),
        _commands(sweep),
        [f"trial {trial.number}: {trial.problem}" for trial in sweep.trials if trial.problem],
    )


def answer(sweep: RecordedSweep, groups: Sequence[Group]) -> str:
    """What the sweep came to, in a sentence or two."""
    states = [trial.status for trial in sweep.trials]
    of = f" of {sweep.record.n_trials}" if sweep.record.n_trials > len(states) else ""
    count = f"{len(states)}{of} trials, {states.count(FINISHED)} finished"
    failed = [f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state != FINISHED]
    text = ", ".join([count, *failed])
    told = [_best(group) for group in groups if group.front]
    return f"{text}. {' '.join(told)}" if told else f"{text}: none has an artifact that is what was asked for."


def numeric(text: str) -> str | float:
    """A value that was searched, as a number where it is one."""
    try:
        value = number_of(float(text))
    except ValueError:
        return text
    return text if value is None else value


def short(option: str) -> str:
    """An option without its group, which all options of stages share."""
    return option.removeprefix("stage.")


def _entry(trial: RecordedTrial) -> Entry | None:
    assert trial.run is not None
    return entry_of(_key(trial), trial.run, trial.violated)


def _key(trial: RecordedTrial) -> str:
    return f"trial {trial.number}"


def _best(group: Group) -> str:
    """The ends of the front."""
    front = sorted((entry for entry in group.entries if entry.key in group.front), key=lambda entry: entry.nbytes)
    smallest, best = front[0], front[-1]
    text = f"On {group.title}, the front has {len(front)}: {_told(smallest, group)}"
    return f"{text} to {_told(best, group)}." if best is not smallest else f"{text}."


def _told(entry: Entry, group: Group) -> str:
    smaller = f", {ratio_text(round(group.largest), round(entry.nbytes))} smaller" if group.largest else ""
    return f"{bytes_text(round(entry.nbytes))} keeping {share_text(entry.kept)} ({entry.key}{smaller})"


def _facts(sweep: RecordedSweep) -> list[tuple[str, str]]:
    record = sweep.record
    constraints = [f"{each.name}{each.sign}{each.bound:g}" for each in sweep.constraints]
    seconds = sum(trial.run.seconds for trial in sweep.trials if trial.run is not None)
    git = record.versions.get("git")
    told = [
        ("folder", str(sweep.folder)),
        ("status", sweep.status),
        ("objectives", ", ".join(f"{each.name} {each.way}" for each in sweep.objectives)),
        ("constraints", ", ".join(constraints)),
        ("sampler", f"{record.sampler}, seed {record.seed}" if record.sampler else "every combination"),
        ("searched", "; ".join(record.space)),
        ("asked alike", " ".join(record.fixed)),
        ("trials took", seconds_text(seconds)),
        ("code", str(git.get("commit", ""))[:12] if isinstance(git, dict) else ""),
    ]
    return [(name, text) for name, text in told if text]


def _trials(sweep: RecordedSweep, entries: Sequence[Entry], front: set[str]) -> Grid:
    placed = {entry.key: entry for entry in entries}
    others = [each.name for each in sweep.objectives if each.name not in (RETENTION, BYTES)]
    rows = []
    for trial in sweep.trials:
        entry, result = placed.get(_key(trial)), trial.run.result if trial.run is not None else {}
        state = trial.status if not trial.violated else f"not {' and '.join(trial.violated)}"
        test = trial.run.numbers.artifact.get(RETENTION) if trial.run is not None else None
        rows.append(
            (
                Cell(str(trial.number), trial.number),
                Cell("on the front" if _key(trial) in front else state),
                Cell(MISSING) if entry is None else Cell(kept_of(entry), entry.kept),
                Cell(MISSING) if entry is None else bytes_cell(entry.nbytes),
                *(Cell(f"{result[name]:.4g}", result[name]) if name in result else Cell(MISSING) for name in others),
                *(_value(trial.point.get(key)) for key in sweep.keys),
                share_cell(test),
                Cell(seconds_text(trial.run.seconds), trial.run.seconds) if trial.run is not None else Cell(MISSING),
            )
        )
    head = ("trial", "state", "retention", "bytes", *others, *map(short, sweep.keys), "retention, test", "took")
    return Grid(head, tuple(rows), 2, tuple(_key(trial) for trial in sweep.trials))


def _value(text: str | None) -> Cell:
    if text is None:
        return Cell(MISSING)
    value = numeric(text)
    return Cell(f"{value:.4g}", value) if isinstance(value, float) else Cell(text)


def _importance(sweep: RecordedSweep) -> tuple[Stack | None, str]:
    """The importance of each option, or why there is none."""
    names = [objective.name for objective in sweep.objectives]
    done = [each for each in sweep.trials if each.done and each.run and all(n in each.run.result for n in names)]
    if len(done) < LEAST_TRIALS:
        return None, f"{len(done)} trials finished; importance is weighed from {LEAST_TRIALS} on."
    points = [{key: numeric(text) for key, text in trial.point.items()} for trial in done]
    values = [[trial.run.result[name] for name in names] for trial in done if trial.run is not None]
    found = importances(points, values, [objective.direction for objective in sweep.objectives])
    if not found:
        return None, "Nothing that was searched took two values."
    return lengths([(short(key), share) for key, share in found.items()]), ""


def _parallel(sweep: RecordedSweep, entries: Sequence[Entry], front: set[str]) -> Coordinates | None:
    points = {_key(trial): trial.point for trial in sweep.trials}
    through = [
        Through(
            entry.key,
            {short(key): numeric(text) for key, text in points[entry.key].items()}
            | {BYTES: float(entry.nbytes), RETENTION: float(entry.kept)},
            entry.kept,
            "infeasible" if entry.violated else "front" if entry.key in front else "trial",
            f"{entry.key}: {kept_of(entry)}, {bytes_text(round(entry.nbytes))}",
        )
        for entry in entries
    ]
    return coordinates([*map(short, sweep.keys), BYTES, RETENTION], through, {BYTES: "bytes", RETENTION: "share"})


def _works(sweep: RecordedSweep) -> list[Work]:
    return [
        Work(
            _key(trial),
            span,
            end_of(trial.run, span),
            f"{_key(trial)}: {span.status}, from {span.start:%Y-%m-%d %H:%M:%S} UTC",
        )
        for trial in sweep.trials
        if trial.run is not None
        for span in trial.run.attempts
    ]


def _commands(sweep: RecordedSweep) -> list[Command]:
    note = "It names code to run: paste it only if you trust who wrote this folder." if sweep.names_code else ""
    found = [Command("search the same again", sweep.repeat, note)]
    if sweep.status not in (LIVE, FINISHED):
        found.append(Command("go on with what is left", sweep.resume, note))
    if FAILED in [trial.status for trial in sweep.trials] or sweep.record.failed:
        found.append(Command("try what failed again", f"{sweep.resume} retry=true", note))
    if sweep.record.n_trials:
        found.append(Command("add to it", f"{sweep.resume} n_trials={2 * sweep.record.n_trials}", note))
    return [*found, redraw(str(sweep.folder))]
