"""COCO, Flickr30k and Flickr8k: photographs with five captions each, in the parts by which results are published.

COCO: Lin et al. (2014); Flickr30k: Young et al. (2014); Flickr8k: Hodosh et al. (2013).
"""

from __future__ import annotations

from pathlib import Path

from rcc.data.cutting import Cut, cut
from rcc.data.files.caption_files import Found
from rcc.data.files.columns import captioned_parts
from rcc.data.files.location import entries, located
from rcc.data.files.pairs import check_unpaired, paired
from rcc.data.files.tables import folder_of, has_tables, read_tables
from rcc.data.sets.annotations import annotation_files, image_folder, karpathy_file, read_annotations, read_karpathy
from rcc.data.splits import Splits
from rcc.errors import UserError


def load_coco(
    path: str | None = None,
    images: str | None = None,
    train: int | None = 0,
    calibration: int | None = 256,
    selection: int | None = 1000,
    test: int | None = None,
    seed: int = 0,
    unpaired: str = "refuse",
    unreadable: str = "refuse",
) -> Splits:
    """COCO 2014 in Karpathy's parts: 113,287 training images, 5,000 for validation, 5,000 for test.

    In COCO's own parts test is the validation part, since the captions of its test images were never published.

    Args:
        path: a folder with dataset_coco.json, train2014/ and val2014/; or with captions_val2017.json and the like and
            their folders; or with parquet files; or a name on the hub.
        images: the folder with train2014/ and val2014/, where it is not `path` or below it.
        train, calibration, selection, test: images; None for all that is left of the part.
        unpaired: 'refuse' captions without their image and images without captions, or 'skip' them.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: files that are missing or not laid out so, or hold fewer images than asked for.
    """
    return _load("coco", path, images, Cut(train, calibration, selection, test, seed, unreadable), unpaired)


def load_flickr30k(
    path: str | None = None,
    images: str | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = None,
    test: int | None = None,
    seed: int = 0,
    unpaired: str = "refuse",
    unreadable: str = "refuse",
) -> Splits:
    """Flickr30k in Karpathy's parts: 29,000 training images, 1,014 for validation, 1,000 for test; options as of
    `load_coco`, the file dataset_flickr30k.json."""
    return _load("flickr30k", path, images, Cut(train, calibration, selection, test, seed, unreadable), unpaired)


def load_flickr8k(
    path: str | None = None,
    images: str | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = None,
    test: int | None = None,
    seed: int = 0,
    unpaired: str = "refuse",
    unreadable: str = "refuse",
) -> Splits:
    """Flickr8k: 6,000 training images, 1,000 for validation, 1,000 for test; options as of `load_coco`, the file
    dataset_flickr8k.json."""
    return _load("flickr8k", path, images, Cut(train, calibration, selection, test, seed, unreadable), unpaired)


def _load(dataset: str, path: str | None, images: str | None, how: Cut, unpaired: str) -> Splits:
    check_unpaired(unpaired)
    if has_tables(path):
        parts, notes = captioned_parts(dataset, read_tables(dataset, path), unpaired, folder_of(path))
        return cut(dataset, parts, how, notes=notes)
    where = located(dataset, path)
    captions = _captions(dataset, where)
    folder = image_folder(dataset, where, captions, images)
    parts, notes = paired(dataset, folder, captions, unpaired)
    return cut(dataset, parts, how, notes=notes)


def _captions(dataset: str, where: Path) -> Found:
    file, files = karpathy_file(where), annotation_files(where) if dataset == "coco" else []
    if file is not None and file not in files:
        return read_karpathy(dataset, file)
    if files:
        return read_annotations(dataset, files)
    raise UserError(
        f"data '{dataset}': '{where}' holds neither parquet files nor dataset_{dataset}.json. Found: {entries(where)}."
        " docs/data.md shows how the files are laid out."
    )
