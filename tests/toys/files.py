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


def sound(seed: int, label: int = 0, kind: str = "WAV", rate: int = 8000, seconds: float = 0.3) -> bytes:
    """An encoded chord of a tone and its fifth in noise: of a pitch by the label, of a loudness by the seed."""
    import soundfile

    random, times = np.random.default_rng(seed), np.arange(int(rate * seconds)) / rate
    tones = sum(np.sin(2 * np.pi * (300 + 200 * label) * ratio * times) for ratio in (1.0, 1.5))
    buffer = io.BytesIO()
    samples = random.uniform(0.1, 0.4) * tones + 0.01 * random.standard_normal(len(times))
    soundfile.write(buffer, samples, rate, format=kind)
    return buffer.getvalue()


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], **features: Any) -> Path:
    """A parquet file with the metadata of the `datasets` library; columns 'image' and 'audio' take encoded bytes."""
    from datasets import Audio, Dataset, Features, Image

    rows = dict(columns)
    for column, kind in (("image", Image), ("audio", Audio)):
        if column in rows:
            names = rows.get("filename", [None] * len(rows[column]))
            rows[column] = [
                stored if stored is None else {"bytes": stored, "path": name}
                for stored, name in zip(rows[column], names, strict=True)
            ]
            features = {column: kind(), **features}
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
