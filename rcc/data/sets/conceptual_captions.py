"""Conceptual Captions, 3 and 12 million images of the web with their alternative texts.

Sharma et al. (2018); CC12M: Changpinyo et al. (2021). Google publishes addresses and captions; the images are fetched
by a downloader, which leaves webdataset shards.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from rcc.data.cutting import Cut, cut
from rcc.data.files.caption_files import Found
from rcc.data.files.location import entries, is_image, located, official_part
from rcc.data.files.pairs import check_unpaired, paired
from rcc.data.files.tar_shards import read_shards, shards_of
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.limits import expanded, read_lines

DATASET = "conceptual_captions"


def load_conceptual_captions(
    path: str | None = None,
    images: str | None = None,
    shards: int | None = 4,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = 1000,
    test: int | None = 1000,
    seed: int = 0,
    unpaired: str = "skip",
    unreadable: str = "skip",
) -> Splits:
    """Shards as a downloader leaves them, or Google's TSV file beside a folder of images.

    Args:
        path: a folder of *.tar shards, one of them, or the TSV file.
        images: with a TSV file, the folder of its images, each named by the number of its line from 0, as 00000012.jpg;
            by default the folder images/ beside the file.
        shards: the first so many shards alone; None for all.
        train, calibration, selection, test: images; None for all that is left.
        unpaired: 'refuse' captions without their image and images without captions, or 'skip' them: on the web, some
            have always gone.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: files that are missing or damaged, or hold fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    check_unpaired(unpaired)
    problems = Problems(f"data '{DATASET}'")
    problems.check(
        shards is None or (type(shards) is int and shards >= 1), f"shards is {shards}; it must be ≥ 1, or null for all."
    )
    problems.done()
    where = located(DATASET, path)
    lists = [where] if where.is_file() and where.suffix == ".tsv" else []
    if lists or (where.is_dir() and not any(where.glob("*.tar*")) and (lists := sorted(where.glob("*.tsv")))):
        parts, notes = _tsv(lists, images, unpaired)
        return cut(DATASET, parts, how, notes=notes)
    files = shards_of(DATASET, where)
    read = files[:shards]
    parts, notes = read_shards(DATASET, read, unpaired)
    if len(read) < len(files):
        notes = (f"{len(read)} of {len(files)} shards were read; data.shards=null reads all.", *notes)
    return cut(DATASET, parts, how, notes=notes)


def _tsv(files: list[Path], images: str | None, unpaired: str) -> tuple[dict[str, Split], tuple[str, ...]]:
    folder = files[0].parent / "images" if images is None else expanded("data.images", images)
    if not folder.is_dir():
        raise UserError(
            f"data '{DATASET}': '{files[0].name}' lists addresses; the images must be fetched first, and '{folder}' is"
            f" no folder. '{files[0].parent}' holds {entries(files[0].parent)}. Download them, for example with"
            " img2dataset and output_format=webdataset, and give the folder of its shards; or give the folder of"
            " images, each named by its line from 0 as in 00000012.jpg, with data.images=<folder>."
        )
    if len(files) > 1:
        raise UserError(
            f"data '{DATASET}': there are {len(files)} TSV files ({', '.join(file.name for file in files)}), each with"
            " images numbered from 0; give one of them as data.path."
        )
    by_line = {
        int(entry.stem): entry.name
        for entry in sorted(folder.iterdir())
        if is_image(entry.name) and entry.stem.isdecimal()
    }
    texts: dict[str, list[str]] = {}
    for line, (caption, address) in enumerate(_lines(files[0])):
        name = by_line.get(line, f"{line:08d}.jpg ({_legible(address)})")
        texts[name] = [caption.strip()] if caption.strip() else []
    found: Found = {official_part(files[0].stem): texts}
    return paired(DATASET, folder, found, unpaired)


def _legible(address: str) -> str:
    """An address as a part of a name that a file could have."""
    return "".join(mark if mark.isascii() and mark.isprintable() else "?" for mark in address[:100])


def _lines(file: Path) -> list[tuple[str, str]]:
    """(caption, address) of each line; CC3M has them in this order, CC12M in the other."""
    pairs = []
    try:
        lines = read_lines(file, newline="")
        for number, row in enumerate(csv.reader(lines, csv.excel_tab, quoting=csv.QUOTE_NONE), 1):
            if len(row) != 2:
                raise ValueError(f"line {number} has {len(row)} columns; expected are a caption and an address")
            first, second = row
            pairs.append((second, first) if first.startswith(("http://", "https://")) else (first, second))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"data '{DATASET}': '{os.fspath(file)}' cannot be read: {error}.") from error
    return pairs
