"""Read a query as people write it: a text, a path of a file, or several weighed texts, as `dog:1 "red snow":-0.5`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rcc.errors import UserError

IMAGE_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
SOUND_ENDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
_WEIGHED = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([^\s:\"']+)):(-?\d+(?:\.\d+)?)(?=\s|$)")


@dataclass(frozen=True)
class Query:
    """What is looked for: an image, a sound, or texts with their weights."""

    texts: tuple[tuple[str, float], ...] = ()
    image: Path | None = None
    sound: Path | None = None


def read_query(text: str) -> Query:
    """The query that a text stands for.

    A name that ends as those of images or sounds do is the path of one. Where every word has a weight behind a colon,
    the embeddings are added by them; else the whole is one text.

    Raises:
        UserError: it is empty, the file is not there, or all weights are zero.
    """
    if not text.strip():
        raise UserError("query is empty: give a text, the path of an image, or weighed words, as 'dog:1 snow:-0.5'.")
    if text.lower().endswith(IMAGE_ENDS):
        if not Path(text).is_file():
            raise UserError(f"query={text}: there is no such image.")
        return Query(image=Path(text))
    if text.lower().endswith(SOUND_ENDS):
        if not Path(text).is_file():
            raise UserError(f"query={text}: there is no such sound.")
        return Query(sound=Path(text))
    weighed, place = [], 0
    while match := _WEIGHED.match(text, place):
        weighed.append((match[1] or match[2] or match[3], float(match[4])))
        place = match.end()
    if not weighed or text[place:].strip():
        return Query(texts=((text, 1.0),))
    if not any(weight for _, weight in weighed):
        raise UserError(f"query='{text}': all weights are zero, which points nowhere.")
    return Query(texts=tuple(weighed))
