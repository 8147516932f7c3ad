"""Images, tables and captions of a few bytes, in the formats data sets are published in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, kind: str = "PNG", size: tuple[int, int] = (6, 5)) -> bytes:
    """An encoded image of noise; the same seed, the same bytes."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], **features: Any) -> Path:
    """A parquet file with the metadata of the `datasets` library; a column 'image' takes encoded bytes."""
    from datasets import Dataset, Features, Image

    rows = dict(columns)
    if "image" in rows:
        names = rows.get("filename", [None] * len(rows["image"]))
        rows["image"] = [
            stored if stored is None else {"bytes": stored, "path": name}
            for stored, name in zip(rows["image"], names, strict=True)
        ]
        features = {"image": Image(), **features}
    table = Dataset.from_dict(rows)
    table = table.cast(Features({name: features.get(name, table.features[name]) for name in table.column_names}))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path))
    return path


def captions_of(index: int, count: int = 5) -> list[str]:
    return [f"image {index}, as told the {time}. time" for time in range(count)]


def write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes | str]]) -> Path:
    """A webdataset shard: for each key, a member key.<suffix> for each suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for suffix, content in members.items():
                stored = content if isinstance(content, bytes) else content.encode()
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(stored)
                tar.addfile(header, io.BytesIO(stored))
    return path
