"""Flickr8k: 8,000 photographs with five captions each (Hodosh et al., 2013), in their official parts."""

from __future__ import annotations

from rcc.data.columns import captioned
from rcc.data.cutting import Cut, cut
from rcc.data.splits import Splits
from rcc.data.tables import read_tables

DATASET = "flickr8k"


def load_flickr8k(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = None,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Test and selection from the official test and validation parts, calibration and train from the training part.

    Args:
        path: a folder with train, validation and test parquet files, or a name on the hub.
        train, calibration, selection, test: images; None for all that is left of the part.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: files that are missing, have no images or no captions, or hold fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    parts = {name: captioned(DATASET, name, table) for name, table in read_tables(DATASET, path).items()}
    return cut(DATASET, parts, how)
