"""Describe how the model was made to run, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.reporting.formats import MISSING, seconds_short
from rcc.reporting.tables import Table
from rcc.runtime.records import Pick, RuntimePlan


def runtime_table(plan: RuntimePlan) -> Table:
    """One row for the layers of one shape and form that got one kernel: how much faster it is, how close it stays."""
    alike: dict[tuple[str, str, str, str], list[Pick]] = {}
    for pick in plan.picks:
        shape = "×".join(map(str, pick.shape))
        alike.setdefault((shape, str(pick.rows), pick.form, pick.kernel), []).append(pick)
    rows = tuple(
        (
            ", ".join(dict.fromkeys(pick.unit.rpartition(".")[2] for pick in picks)),
            str(len(picks)),
            *facts[:-1],
            _from_to([str(rank) for rank in sorted({pick.rank for pick in picks if pick.rank is not None})]),
            _from_to([f"{zeros:.0%}" for zeros in sorted({round(pick.zeros, 2) for pick in picks})]),
            facts[-1],
            f"{sum(pick.stored_seconds for pick in picks) / sum(pick.seconds for pick in picks):.2f}×",
            f"{min(pick.cosine for pick in picks):.4f}",
        )
        for facts, picks in alike.items()
    )
    head = ("layers", "count", "shape", "rows", "form", "rank", "zeros", "kernel", "faster", "least cosine")
    return Table(head, rows)


def _from_to(values: Sequence[str]) -> str:
    """'5–16' for values in order, '5' for one, '-' for none."""
    return "–".join(dict.fromkeys((values[0], values[-1]))) if values else MISSING


def runtime_lines(plan: RuntimePlan) -> list[str]:
    """The choice in words: the dtype, the speed-up, the change of the outputs, and the plan's notes."""
    return [
        f"runtime={plan.choice}: activations in {plan.dtype}, {plan.threads} threads. One pass takes "
        f"{seconds_short(plan.seconds)} instead of {seconds_short(plan.stored_seconds)} as stored: {plan.speedup:.2f}× "
        f"as fast ({plan.predicted_speedup:.2f}× by the layers' own times).",
        f"Cosine of the outputs to those as stored: {plan.cosine:.4f}, about their mean {plan.centred_cosine:.4f}.",
        *plan.notes,
    ]
