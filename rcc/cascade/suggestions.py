"""Suggest what to try next: each suggestion names the number of the run that it follows from, and the option."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.cascade.gate import Gate
from rcc.cascade.records import StepRecord
from rcc.stages.base import DID_NOT_PAY, WITHOUT_DATA

SPARE = 0.03


def suggest(records: Sequence[StepRecord], gate: Gate) -> tuple[str, ...]:
    """Suggestions for the next run, most telling first; empty when this one leaves nothing to say."""
    found = [*_rolled_back(records), *_softened(records), *_did_not_pay(records), *_unchanged(records)]
    found += [*_few_items(records, gate), *_without_data(records), *_spare(records, gate), *_slowest(records)]
    return tuple(dict.fromkeys(found))


def _without_data(records: Sequence[StepRecord]) -> list[str]:
    return [
        f"{record.step.label} had no calibration data and took {record.chosen}: give some"
        " (`pipeline.run(..., calibration=batches)`), since fitting to outputs keeps far more of a model."
        for record in records
        if record.facts.get(WITHOUT_DATA)
    ]


def _few_items(records: Sequence[StepRecord], gate: Gate) -> list[str]:
    """What the gate says of the attempt whose retention is known worst; once, if at all."""
    attempts = (attempt for record in records for attempt in record.attempts)
    known = [(each.interval, each.measurement.samples) for each in attempts if each.interval and each.measurement]
    widest = max(known, key=lambda each: each[0].standard_error, default=(None, 0))
    return [told] if (told := gate.too_few(*widest)) else []


def _rolled_back(records: Sequence[StepRecord]) -> list[str]:
    lines = []
    for record in records:
        if record.outcome == "skipped" and record.attempts:
            last = record.attempts[-1]
            advice = "give it more rounds (`schedule.rounds`), or move it in the order of `stage=`"
            if last.strength is not None and not record.step.option:
                advice = f"ask for more bytes (`target_bytes`, `target_ratio`), or {advice}"
            if last.strength is not None and record.step.option:
                advice = f"start below {last.strength:.2f} with `{record.step.option}=`, or {advice}"
            lines.append(f"{record.step.name} was rolled back ({last.problem}): {advice}.")
    return lines


def _unchanged(records: Sequence[StepRecord]) -> list[str]:
    return [
        f"{record.step.name} changed nothing ({record.reason}): leave it out of `stage=`, or give it more to do."
        for record in records
        if record.outcome == "unchanged" and not record.facts.get(DID_NOT_PAY)  # which is said with what helps
    ]


def _softened(records: Sequence[StepRecord]) -> list[str]:
    lines = []
    for record in records:
        passed = record.attempts[-1] if record.attempts else None
        if record.outcome == "kept" and passed and len(record.attempts) > 1 and passed.strength is not None:
            option = f"set `{record.step.option}={passed.strength:.2f}` to save the attempts"
            if not record.step.option:
                option = "ask for more bytes (`target_bytes`, `target_ratio`)"
            lines.append(
                f"{record.step.name} passed only at {passed.strength:.2f} instead of "
                f"{record.attempts[0].strength:.2f}, after {len(record.attempts)} attempts: {option}, or raise "
                "`schedule.rounds` to reach more."
            )
    return lines


def _did_not_pay(records: Sequence[StepRecord]) -> list[str]:
    lines = []
    for record in records:
        unpaid = record.facts.get(DID_NOT_PAY, 0)
        if unpaid and record.step.round == record.step.rounds:
            advice = f"raise `{record.step.option}`, or move" if record.step.option else "move"
            lines.append(
                f"{record.step.name} left {unpaid} of {unpaid + len(record.touched)} layers as they were, because what "
                f"it would have made of them takes no fewer bytes: {advice} the stage forward in `stage=`."
            )
    return lines


def _spare(records: Sequence[StepRecord], gate: Gate) -> list[str]:
    if not records or any(record.outcome != "kept" or len(record.attempts) > 1 for record in records):
        return []
    spare = gate.judged(records[-1].retention, records[-1].interval) - gate.threshold
    options = dict.fromkeys(f"`{record.step.option}`" for record in records if record.step.option)
    if any(record.step.strength is None and record.attempts[-1].strength is not None for record in records):
        options = {"`target_ratio`": None}
    if spare <= SPARE or not options:
        return []
    return [
        f"Every step passed at once, with {100 * spare:.1f} points above the threshold at the end: there is room for a "
        f"higher {' or '.join(options)}, or sweep them (`rcc-run -m experiment=pareto`)."
    ]


def _slowest(records: Sequence[StepRecord]) -> list[str]:
    total = sum(record.seconds for record in records)
    if len(records) < 2 or total == 0:
        return []
    slowest = max(records, key=lambda record: record.seconds)
    part = slowest.seconds / total
    if part < 0.6:
        return []
    return [f"{slowest.step.name} took {part:.0%} of the cascade's time: that is where a faster setting would show."]
