"""Images that cannot be decoded: refused at the first by name, or left out and listed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from rcc.data.files.images import BLOCK
from rcc.data.files.location import shown
from rcc.data.splits import Split
from rcc.errors import UserError

UNREADABLE = ("refuse", "skip")
DECODERS = 4  # threads; decoding leaves the interpreter's lock alone


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
