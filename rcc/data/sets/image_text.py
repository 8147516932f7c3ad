"""Load images with captions: CSV, TSV or JSONL files, webdataset shards, parquet files, the hub."""

from __future__ import annotations

from pathlib import Path

from rcc.data.cutting import Cut, cut
from rcc.data.files.caption_files import caption_files, read_captions
from rcc.data.files.columns import captioned_parts
from rcc.data.files.location import located
from rcc.data.files.pairs import check_unpaired, paired
from rcc.data.files.tables import folder_of, has_tables, read_tables
from rcc.data.files.tar_shards import read_shards, shards_of
from rcc.data.sets.annotations import image_folder
from rcc.data.splits import Splits

DATASET = "image_text"


def load_image_text(
    path: str | None = None,
    images: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = 500,
    test: int | None = None,
    seed: int = 0,
    unpaired: str = "refuse",
    unreadable: str = "refuse",
) -> Splits:
    """Parts from a column 'split' or from the files' names (train…, val…, test…) where they speak of them.

    Args:
        path: a .csv, .tsv or .jsonl file, a folder of them, a folder of *.tar shards or of parquet files, or a name on
            the hub.
        images: the folder that image files are named from; by default that of the caption file, or one in it.
        image_column, caption_column: of CSV, TSV and JSONL files; by default the first of the usual names.
        train, calibration, selection, test: images; None for all that is left of the part.
        unpaired: 'refuse' captions without their image and images without captions, or 'skip' them.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: files that are missing or not laid out so, or hold fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    check_unpaired(unpaired)
    if has_tables(path):
        parts, notes = captioned_parts(DATASET, read_tables(DATASET, path), unpaired, folder_of(path))
        return cut(DATASET, parts, how, notes=notes)
    where = located(DATASET, path)
    if _has_shards(where):
        parts, notes = read_shards(DATASET, shards_of(DATASET, where), unpaired)
    else:
        captions = read_captions(DATASET, caption_files(DATASET, where), image_column, caption_column)
        parts, notes = paired(DATASET, image_folder(DATASET, where, captions, images), captions, unpaired)
    return cut(DATASET, parts, how, notes=notes)


def _has_shards(path: Path) -> bool:
    return ".tar" in path.suffixes if path.is_file() else any(path.glob("*.tar*"))
