"""Tell which items of the test split a compression lost and won, and keep small pictures of them.

items.json has what each model got of each item; pictures.json, of the items that changed, pictures as a page shows
them. They are written while the data is at hand, so that a page can be drawn from the run's files alone.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.atomic import write_text
from rcc.errors import UserError, is_whole
from rcc.limits import read_json
from rcc.measurement import Measurement
from rcc.reporting.items import FILE as ITEMS
from rcc.reporting.recorded.numbers import number_of

if TYPE_CHECKING:
    from PIL import Image

FILE = "pictures.json"
MOST_PICTURES = 16
"""Of the lost, and of the won."""
SIDE = 64
"""The longer side of a picture in pixels."""
MOST_BYTES = 16_384
"""Of a picture: a PNG of that side has no more, so that a file of somebody's cannot swell a page."""
KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


@dataclass(frozen=True)
class Change:
    """An item whose value of the metric is another than the dense model's.

    Attributes:
        index: in the order of the split.
        told: what each model predicted, where that is recorded.
        picture: as a data URI; empty where there is none.
    """

    index: int
    before: float
    after: float
    told: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Changes:
    """The items of a split that changed, the largest differences first."""

    metric: str
    split: str
    items: int
    lost: tuple[Change, ...]
    won: tuple[Change, ...]


def read_changes(directory: Path, primary: str = "") -> Changes | None:
    """What changed from the dense to the compressed model in a run's items.json, with the pictures that it kept.

    Args:
        primary: the metric to compare by, where it is one of single items; else the first of these.

    Returns:
        None where there is no such file, or nothing to compare in it.

    Raises:
        UserError: it is no file of that kind.
    """
    if not (directory / ITEMS).exists():
        return None
    content = read_json(directory / ITEMS)
    models = _mapping(content.get("models"))
    found = _changes(_mapping(models.get("dense")), _mapping(models.get("compressed")), primary)
    if found is None:
        return None
    metric, items, changes = found
    pictures = _read_pictures(directory, content.get("data_fingerprint"))
    changes = [Change(**vars(each) | {"picture": pictures.get(each.index, "")}) for each in changes]
    lost = tuple(each for each in changes if each.after < each.before)
    return Changes(
        metric, str(content.get("split", "")), items, lost, tuple(each for each in changes if each not in lost)
    )


def write_pictures(
    directory: Path, images: Sequence[Image.Image], fingerprint: str, dense: Measurement, compressed: Measurement
) -> None:
    """Write `directory`/pictures.json: the first pictures of those that were lost, and of those that were won."""
    found = _changes(dense.details, compressed.details, dense.primary)
    changes = [] if found is None else found[2]
    lost, won = _parted(changes)
    shown = sorted(each.index for each in (*lost[:MOST_PICTURES], *won[:MOST_PICTURES]))
    pictures = {str(index): base64.b64encode(_small(images[index])).decode() for index in shown}
    content = {"split": dense.split, "data_fingerprint": fingerprint, "pictures": pictures}
    write_text(directory / FILE, json.dumps(content, separators=(",", ":")) + "\n")


def _changes(
    dense: Mapping[str, Any], compressed: Mapping[str, Any], primary: str
) -> tuple[str, int, list[Change]] | None:
    """The metric, the number of items and those that changed, by the details of each evaluator; None without any."""
    for evaluator, details in dense.items():
        before, other = _mapping(_mapping(details).get("per_image")), _mapping(compressed.get(evaluator))
        after = _mapping(other.get("per_image"))
        names = [name for name in before if name in after]
        metric = primary if primary in names else next(iter(names), None)
        if metric is None:
            continue
        first, second = before[metric], after[metric]
        if not isinstance(first, list) or not isinstance(second, list) or len(first) != len(second):
            continue
        changes = []
        for index, (left, right) in enumerate(zip(first, second, strict=True)):
            one, two = number_of(left), number_of(right)
            if one is not None and two is not None and one != two:
                changes.append(Change(index, one, two, _told(_mapping(details), other, index)))
        changes.sort(key=lambda each: (-abs(each.after - each.before), each.index))
        return str(metric), len(first), changes
    return None


def _parted(changes: Sequence[Change]) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Those that were lost, and those that were won."""
    lost = tuple(each for each in changes if each.after < each.before)
    return lost, tuple(each for each in changes if each.after > each.before)


def _told(dense: Mapping[str, Any], compressed: Mapping[str, Any], index: int) -> str:
    """'label 4: 4 became 9', where both models predicted something."""
    lists = [dense.get("labels"), dense.get("predictions"), compressed.get("predictions")]
    if not all(isinstance(each, list) and len(each) > index and is_whole(each[index]) for each in lists):
        return ""
    label, before, after = (each[index] for each in lists if isinstance(each, list))
    return f"class {label}: {before} became {after}"


def _small(image: Image.Image) -> bytes:
    """A picture of at most `SIDE` pixels a side, as PNG or JPEG, whichever takes less."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    written = []
    for kind, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 80})):
        file = io.BytesIO()
        small.save(file, kind, **options)
        written.append(file.getvalue())
    return min(written, key=len)


def _read_pictures(directory: Path, fingerprint: Any) -> dict[int, str]:
    """Data URIs by item, of the same data; a picture that is no PNG or JPEG of a small one's size is left out."""
    try:
        content = read_json(directory / FILE)
    except UserError:
        return {}
    if content.get("data_fingerprint") != fingerprint:
        return {}
    found: dict[int, str] = {}
    for index, text in _mapping(content.get("pictures")).items():
        if len(found) == 2 * MOST_PICTURES:
            break
        if index.isdecimal() and len(index) < 16 and isinstance(text, str) and (uri := _uri(text)):
            found[int(index)] = uri
    return found


def _uri(text: str) -> str:
    if len(text) > 2 * MOST_BYTES:
        return ""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), "")
    return f"data:image/{kind};base64,{text}" if kind and len(content) <= MOST_BYTES else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
