"""Webdataset shards: tar files in which the members of one sample share a key, as in 000.jpg, 000.txt, 000.json.

Only the headers are walked, once; an image is read from its place in the shard when it is asked for, so that a shard
of any size costs a few numbers and a caption for each sample. (The webdataset reader of the `datasets` library copies
every image into its cache, or gives them in order alone.)
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rcc.data.files.images import EncodedImages
from rcc.data.files.location import IMAGE_SUFFIXES, WHOLE, entries, official_part, shown
from rcc.data.files.records import NOT_LAID_OUT, of_kind, reason, sentences
from rcc.data.splits import Split
from rcc.errors import Problems, UserError
from rcc.limits import how_to_raise, limits, regular_file


@dataclass
class _Sample:
    """A sample's key, the offset and size of its image (None until it is met), and its captions."""

    key: str
    image: tuple[int, int] | None = None
    captions: list[str] = field(default_factory=list)


def shards_of(dataset: str, path: Path) -> list[Path]:
    """The shards at `path`: itself, or the tar files in the folder.

    Raises:
        UserError: there is none, or they are compressed.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.tar*"))
    packed = [file.name for file in files if file.suffix in (".gz", ".xz", ".bz2", ".zst", ".tgz")]
    if packed:
        raise UserError(
            f"data '{dataset}': {shown(packed)} are compressed, so no image in them can be reached without unpacking"
            " all before it. Uncompress them first: gunzip <file>."
        )
    if not files or files[0].suffix != ".tar":
        raise UserError(f"data '{dataset}': '{path}' holds no *.tar shard. Found: {entries(path)}.")
    return files


def read_shards(dataset: str, shards: Sequence[Path], unpaired: str) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The samples of the shards by part, and notes on what was left out. A shard's part is what its name speaks of.

    A sample's caption is its .txt, else the 'caption' of its .json.

    Raises:
        UserError: a shard that is damaged, or, if `unpaired` is 'refuse', samples without an image or without a
            caption.
    """
    parts: dict[str, list[tuple[Path, _Sample]]] = {}
    named = {official_part(shard.stem) for shard in shards}
    for shard in shards:
        # A set of which every shard is a training shard, as of Conceptual Captions, is not divided by that name.
        part = official_part(shard.stem) if len(named) > 1 else WHOLE
        parts.setdefault(part, []).extend((shard, sample) for sample in _samples(dataset, shard))
    every = [(shard, sample) for found in parts.values() for shard, sample in found]
    told = [
        f"{len(names)} samples have no {what}: {shown(names)}"
        for what, names in (
            ("image", [f"{shard.name}:{sample.key}" for shard, sample in every if sample.image is None]),
            ("caption", [f"{shard.name}:{sample.key}" for shard, sample in every if not sample.captions]),
        )
        if names
    ]
    if unpaired == "refuse":
        problems = Problems(f"data '{dataset}'")
        for each in told:
            problems.check(False, f"{each}. Complete the shards, or leave them out with data.unpaired=skip.")
        problems.done()
    splits = {part: _split(part, found) for part, found in parts.items()}
    return splits, tuple(f"{each}; they were left out." for each in told)


def _split(part: str, found: Sequence[tuple[Path, _Sample]]) -> Split:
    whole = [(shard, sample, sample.image) for shard, sample in found if sample.image and sample.captions]
    shards = sorted({shard for shard, _, _ in whole})
    number = {shard: index for index, shard in enumerate(shards)}
    places = np.array([(number[shard], *image) for shard, _, image in whole], np.int64).reshape(-1, 3)

    def stored(index: int) -> bytes:
        shard, offset, size = places[index].tolist()
        with regular_file(shards[shard]).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    names = [f"{shard}:{sample.key}" for shard, sample, _ in whole]
    return Split(part, EncodedImages(names, stored), tuple(tuple(sample.captions) for _, sample, _ in whole))


def _samples(dataset: str, shard: Path) -> list[_Sample]:
    """The samples of a shard in its order; members of one key need not be neighbours."""
    samples: dict[str, _Sample] = {}
    described: dict[str, str] = {}
    try:
        # Unbuffered: each header is a read of its own, and what lies between is passed over.
        with _Bounded(regular_file(shard)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith("."):
                    continue
                stem, _, suffix = name.partition(".")
                key, suffix = f"{folder}/{stem}".lstrip("/"), suffix.lower()
                if f".{suffix}" in IMAGE_SUFFIXES:
                    _check_size(member, "image_bytes")
                    samples.setdefault(key, _Sample(key)).image = (member.offset_data, member.size)
                elif suffix in ("txt", "json"):
                    sample = samples.setdefault(key, _Sample(key))
                    _check_size(member, "text_bytes")
                    text = _text(tar, member)
                    if suffix == "txt":
                        sample.captions = [text.strip()] if text.strip() else []
                    else:
                        described[key] = text
            for key, text in described.items():
                if not samples[key].captions:
                    samples[key].captions = _described(text, f"{key}.json")
    except (*NOT_LAID_OUT, tarfile.TarError) as error:
        raise UserError(
            f"data '{dataset}': the shard '{shard}' cannot be read ({reason(error)}). Download it again, or move it"
            " away."
        ) from error
    return list(samples.values())


class _Bounded(io.FileIO):
    """A file that refuses to be read in pieces larger than a text may be: a header may ask for any number of bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= limits.text_bytes:
            raise ValueError(f"a header asks for {size} bytes. {how_to_raise('text_bytes')}")
        return super().read(size)


def _check_size(member: tarfile.TarInfo, limit: str) -> None:
    if member.issparse():
        raise ValueError(f"its member {member.name!r} is stored with holes, {member.size} bytes in all")
    if not 0 <= member.size <= getattr(limits, limit):
        raise ValueError(f"its member {member.name!r} has {member.size} bytes. {how_to_raise(limit)}")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    assert file is not None
    try:
        return file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"its member {member.name!r} is no UTF-8 text: {error}") from error


def _described(text: str, name: str) -> list[str]:
    """The caption in the record of a sample; none where it has none."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its member '{name}' is no JSON: {reason(error)}") from error
    caption = of_kind(record, dict, f"its member '{name}'").get("caption")
    return [] if caption is None else sentences(of_kind(caption, str, f"'caption' of its member '{name}'"))
