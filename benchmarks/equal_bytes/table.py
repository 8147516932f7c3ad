"""Print the rows of one subject as a table: every method at every ratio, what must and should be reached, and if it
was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from subjects.subject import Subject

from equal_bytes.limits import Goal, verdict
from equal_bytes.rows import Row

TOLERANCE, CODING = 0.01, 1.02
SEARCHED, SEARCH = 1000, 3
"""The processor time of a search is to be at most so many times that of evaluating so many items."""
OURS = "rcc"


def table(subject: Subject, rows: Sequence[Row], dense: Mapping[str, str], seconds: float) -> str:
    """Markdown. `dense`: what is told of the dense model, by name. `seconds`: processor time of evaluating it."""
    heads = [heading for heading, _ in subject.figures_of.values()]
    columns = ["asked ×", "method", "bytes", "×", *heads, "processor s", "must", "aim"]
    told = ", ".join(f"{name} {value}" for name, value in dense.items())
    lines = [f"### {subject.title}", "", f"Dense: {told}. {subject.note}".strip(), ""]
    lines += [f"| {' | '.join(columns)} |", "| --: | :-- |" + " --: |" * (len(columns) - 4) + " :-- | :-- |"]
    for ratio in sorted({row.ratio for row in rows}):
        group = [row for row in rows if row.ratio == ratio]
        figures = {row.method: row.figures for row in group if row.figures}
        lines += [line(subject, row, subject.goals.get(ratio, Goal((), ())), figures) for row in group]
    notes = [f"- {row.ratio:g} ×, {row.method}: {said(row)}" for row in rows if said(row)]
    return "\n".join([*lines, "", *checks(subject, rows, seconds), *notes, ""])


def checks(subject: Subject, rows: Sequence[Row], seconds: float) -> list[str]:
    """What must hold of every row of ours: bytes, coding and, where it is bounded, time."""
    ours = [row for row in rows if row.method == OURS and row.figures]
    told = [
        ("target within 1 %", lambda row: abs(row.reached / row.ratio - 1), TOLERANCE, ".2%"),
        ("coded bytes over the entropy of what is stored", lambda row: row.coding, CODING, ".3f"),
    ]
    if subject.evaluated:
        unit = seconds * SEARCHED / subject.evaluated
        told.append((f"search over evaluating {SEARCHED:,} items", lambda row: row.seconds / unit, SEARCH, ".1f"))
    lines = []
    for what, number, limit, form in told:
        found = {row.ratio: number(row) for row in ours}
        verdicts = (
            f"{ratio:g} × {each:{form}} {'met' if each <= limit else 'missed'}" for ratio, each in found.items()
        )
        if found:
            lines.append(f"- {what} (at most {limit:{form}}): {', '.join(verdicts)}")
    return lines


def line(subject: Subject, row: Row, goal: Goal, figures: Mapping[str, Mapping]) -> str:
    if not row.figures:
        return f"| {row.ratio:g} | {row.method} | no artifact |" + " |" * (len(subject.figures_of) + 4)
    cells = [shown(row, name, form) for name, (_, form) in subject.figures_of.items()]
    verdicts = [verdict(limits, row.method, figures) for limits in (goal.must, goal.aim)]
    if abs(row.reached / row.ratio - 1) > TOLERANCE:
        verdicts = [
            f"{row.reached:.2f} × is not the {row.ratio:g} × asked; {each}" if each else "" for each in verdicts
        ]
    seconds = f"{row.seconds:.0f}" if row.gate_seconds < 0.5 else f"{row.seconds:.0f} (gate {row.gate_seconds:.0f})"
    front = [f"{row.ratio:g}", row.method, f"{row.nbytes:,}", f"{row.reached:.2f}"]
    return f"| {' | '.join([*front, *cells, seconds, *verdicts])} |"


def shown(row: Row, name: str, form: str) -> str:
    figure = row.figures[name]
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def said(row: Row) -> str:
    return "; ".join(text for text in (row.problem, row.note) if text)
