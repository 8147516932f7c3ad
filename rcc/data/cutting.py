"""Splits cut out of a data set's official parts: sizes, seed, and no image in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rcc.data.files.encoded import BLOCK
from rcc.data.files.location import shown
from rcc.data.splits import Split, Splits, check_labels, class_texts, stratified_order
from rcc.errors import Problems, UserError

UNREADABLE = ("refuse", "skip")
DECODERS = 4  # threads; decoding leaves the interpreter's lock alone
# Where each split is cut from: the first of these parts that the data set has.
SOURCES = {
    "test": ("test", "validation", "train"),
    "selection": ("validation", "train", "test"),
    "calibration": ("train", "validation", "test"),
    "train": ("train", "validation", "test"),
}


@dataclass(frozen=True)
class Cut:
    """The number of items of each split; None: all that the others leave.

    Of two splits that both take what is left of one part, the first of test, selection, calibration, train gets it;
    the train split is then empty.
    """

    train: int | None
    calibration: int | None
    selection: int | None
    test: int | None
    seed: int = 0
    unreadable: str = "refuse"

    def __post_init__(self) -> None:
        problems = Problems("data")
        for role in SOURCES:
            size, least = getattr(self, role), 0 if role == "train" else 1
            problems.check(
                size is None or (type(size) is int and size >= least),
                f"{role} is {size}; it must be a whole number ≥ {least}, or null for all that is left.",
            )
        problems.check(
            type(self.seed) is int and self.seed >= 0, f"seed is {self.seed}; it must be a whole number ≥ 0."
        )
        problems.choice("unreadable", str(self.unreadable), UNREADABLE)
        problems.done()


def cut(
    dataset: str,
    parts: Mapping[str, Split],
    how: Cut,
    class_names: Sequence[str] = (),
    templates: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Splits:
    """The four splits of a data set: disjoint, seeded, stratified where there are labels.

    The test split comes from the official test part, selection from the validation part, calibration and train from the
    training part; where a part is missing, from the one that `SOURCES` names next. A part that several splits are cut
    from is shared out in the order test, selection, calibration, train. An image that two splits hold to the byte
    stays in the first of them alone.

    Args:
        parts: by name, 'train', 'validation' or 'test'; one or more. Empty ones count as missing.

    Raises:
        UserError: no part with an image, or more items asked for than a part has.
    """
    _check_class_names(dataset, class_names)
    full = {name: part for name, part in parts.items() if len(part)}
    for part in full.values():
        check_labels(part, class_names)
    source = _sources(dataset, full)
    found, shares = [], _shares(dataset, full, source, how)
    for role in SOURCES:
        part = full[source[role]].subset(shares[role])
        # Texts that are the items themselves are never replaced by prompts, which would tell their classes.
        prompted = part.labels if templates and "texts" not in part.inputs else None
        texts = () if prompted is None else class_texts(prompted, class_names, templates)
        found.append(part.as_role(role, texts))
    found, duplicates = without_duplicates(found)
    unreadable: tuple[str, ...] = ()
    if how.unreadable == "skip":
        found, unreadable = without_unreadable(found)
    test, selection, calibration, train = found
    every = (*notes, *duplicates, *unreadable)
    return Splits(train, calibration, selection, test, tuple(class_names), tuple(templates), every)


def without_duplicates(splits: Sequence[Split]) -> tuple[list[Split], tuple[str, ...]]:
    """The splits without the images that an earlier one has too, and a note for each split that lost some."""
    kept, notes, seen = [], [], set[bytes]()
    for split in splits:
        fresh = np.array([digest not in seen for digest in split.digests], bool)
        if not fresh.all():
            notes.append(
                f"{int((~fresh).sum())} of {len(split)} {split.noun} of split '{split.name}' are the same to the"
                " byte as some of a split that is measured on; they were left out."
            )
            split = split.subset(np.flatnonzero(fresh))
        kept.append(split)
        seen.update(split.digests)
    return kept, tuple(notes)


def without_unreadable(splits: Sequence[Split]) -> tuple[list[Split], tuple[str, ...]]:
    """The splits without the images that cannot be decoded, and a note with their names for each split that lost some.

    Every image is decoded once for it.
    """
    kept, notes = [], []
    for split in splits:
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="rcc-decode") as threads:
            blocks = threads.map(partial(_decoded, split), range(0, len(split), BLOCK))
            good = np.array([decoded for block in blocks for decoded in block], bool)
        if not good.all():
            bad = [split.input.name(int(index)) for index in np.flatnonzero(~good)]
            notes.append(
                f"{len(bad)} {split.noun} of split '{split.name}' cannot be decoded and were left out: {shown(bad)}."
            )
            split = split.subset(np.flatnonzero(good))
        kept.append(split)
    return kept, tuple(notes)


def _check_class_names(dataset: str, class_names: Sequence[str]) -> None:
    """Refuse names that no tokenizer takes: those of folders and of tables may hold anything."""
    odd = [name for name in class_names if _has_surrogates(name)]
    if odd:
        raise UserError(
            f"data '{dataset}': {len(odd)} class names are no UTF-8 text: {shown(odd)}. Rename their folders, or give"
            " names in a file where the data set takes one."
        )


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= mark <= "\udfff" for mark in text)


def _sources(dataset: str, parts: Mapping[str, Split]) -> dict[str, str]:
    """The part each split is cut from."""
    if not parts:
        raise UserError(f"data '{dataset}' holds no image; docs/data.md shows how its files are laid out.")
    source: dict[str, str] = {}
    for role, choices in SOURCES.items():
        usable = [name for name in choices if name in parts] or list(parts)
        # A validation part that is published results' test part is not looked at by the gate while there is another.
        apart = [name for name in usable if name != source.get("test")] if role != "test" else usable
        source[role] = (apart or usable)[0]
    return source


def _shares(
    dataset: str, parts: Mapping[str, Split], source: Mapping[str, str], how: Cut
) -> dict[str, NDArray[np.int64]]:
    """Indices of each split into its part."""
    shares, problems = {}, Problems(f"data '{dataset}'")
    for name, part in parts.items():
        roles = [role for role in SOURCES if source[role] == name]
        if not roles:
            continue
        sizes = {role: getattr(how, role) for role in roles}
        left = len(part) - sum(size or 0 for size in sizes.values())
        for role in roles:
            if sizes[role] is None:
                sizes[role], left = max(left, 0), 0
        asked = " + ".join(f"{size} {role}" for role, size in sizes.items())
        short = [role for role in roles if not sizes[role] and role != "train"]
        problems.check(
            sum(sizes.values()) <= len(part) and not short,
            f"part '{name}' has {len(part)} {part.noun}, and {asked} are asked of it; make a split smaller"
            + (f" to leave some for '{short[0]}'." if short else "."),
        )
        labels = np.zeros(len(part), np.int64) if part.labels is None else part.labels
        order, start = stratified_order(labels, how.seed), 0
        for role, size in sizes.items():
            shares[role], start = order[start : start + size], start + size
    problems.done()
    return shares


def _decoded(split: Split, start: int) -> list[bool]:
    """Whether each image of the block from `start` can be decoded."""
    return [_decodes(split, index) for index in range(start, min(start + BLOCK, len(split)))]


def _decodes(split: Split, index: int) -> bool:
    try:
        for name in split.inputs:
            split.fields[name][index]
    except UserError:
        return False
    return True
