"""The tables of the quality benchmark, from its rows."""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import mean
from typing import Any

HEAD = (
    "| recipe | × smaller | 1 − cosine | images | captions | selection, % | test, % | processor s |",
    "| :-- | --: | --: | --: | --: | --: | --: | --: |",
)


def table(result: dict[str, Any]) -> str:
    """Everything in Markdown: one table a ratio, its recipes from the nearest to the dense model to the farthest."""
    rows = result["rows"]
    lines = [introduction(result)]
    for ratio in sorted({row["ratio"] for row in rows}):
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if row["ratio"] == ratio:
                groups[row["recipe"]].append(row)
        lines += ["", f"**{ratio:g} times smaller than the dense directory in float32**", "", *HEAD]
        lines += [line(name, groups[name]) for name in sorted(groups, key=lambda name: order(groups[name]))]
    return "\n".join([*lines, ""])


def introduction(result: dict[str, Any]) -> str:
    done = [row for row in result["rows"] if not row["problem"]]
    dense: dict[int, dict[str, Any]] = {row["seed"]: row for row in done}
    seeds = "seed" if len(dense) == 1 else "seeds"
    text = f"{len(dense)} training {seeds}, one thread, torch {result['machine']['torch']}."
    if done:
        both = [spread([row[f"dense_{what}"] for row in dense.values()]) for what in ("selection", "test")]
        text += (
            f" Dense: {both[0]} on the selection split ({done[0]['selection_images']} images), {both[1]} on the test"
            f" split ({done[0]['test_images']})."
        )
    return (
        f"{text} Control: zstd -19 of the dense float16 weights makes the directory {mean(result['control']):.2f} times"
        " smaller. Means over the seeds, least to greatest in brackets, ± the binomial standard error of the mean"
        " accuracy on one split of that size. Ordered by the distance on the selection split; the test split decided"
        " nothing."
    )


def order(group: list[dict[str, Any]]) -> tuple[bool, float]:
    """Recipes that did not arrive on some seed come last; the others by their mean distance."""
    failed = any(row["problem"] for row in group)
    return failed, math.inf if failed else mean(row["distance"] for row in group)


def line(name: str, group: list[dict[str, Any]]) -> str:
    """One recipe at one ratio."""
    failed = [row for row in group if row["problem"]]
    if failed:
        reason = failed[0]["problem"].split(":")[-1] if "cannot be met" not in failed[0]["problem"] else "out of reach"
        return f"| {name} | {reason.strip()} ({len(failed)} of {len(group)} seeds) | | | | | | |"
    missed = any(abs(row["reached"] / row["ratio"] - 1) > 0.0102 for row in group)
    cells = (
        f"{mean(row['reached'] for row in group):.1f}" + (" (missed)" if missed else ""),
        *(f"{mean(row[what] for row in group):.5f}" for what in ("distance", "image_distance", "text_distance")),
        *(accuracy(group, what) for what in ("selection", "test")),
        f"{mean(row['processor'] for row in group):.0f}",
    )
    return f"| {name} | " + " | ".join(cells) + " |"


def accuracy(group: list[dict[str, Any]], what: str) -> str:
    share = mean(row[what] for row in group)
    error = math.sqrt(share * (1 - share) / group[0][f"{what}_images"])
    return f"{spread([row[what] for row in group])} ± {100 * error:.2f}"


def spread(shares: list[float]) -> str:
    """Mean, least and greatest, in per cent."""
    return f"{100 * mean(shares):.2f} ({100 * min(shares):.2f}–{100 * max(shares):.2f})"
