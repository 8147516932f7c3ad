"""Data sets damaged or forged at random, by fixed seeds: splits that can be read, or a message that names the set."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys.data_mutations import mutate_data
from toys.data_sets import WRITE, write_captioned_files
from toys.files import captions_of, picture

from rcc.data.registry import load_data
from rcc.errors import UserError

SEEDS = {
    "cifar10": 6,
    "cifar100": 3,
    "flickr8k": 16,
    "fsdd": 6,
    "imagenet": 15,
    "image_folder": 20,
    "speech_folder": 20,
}
"""Fewer of those that take longer: of tables, which the library converts into its cache, and of many images."""
SIZES: dict[str, Any] = {"calibration": 2, "selection": 2, "train": None}
SECONDS = 10
MEASURED: dict[str, Callable[[Any], Any]] = {
    "images": lambda image: image.load() is not None,
    "audio": lambda sound: len(sound.samples),
    "texts": lambda text: text.encode() is not None,
    "pairs": lambda text: text.encode() is not None,
}
"""What reads an item of a field to its end."""


def write_lines(folder: Path) -> Path:
    """A JSONL file beside its images."""
    import json

    write_captioned_files(folder)
    (folder / "captions.csv").unlink()
    lines = [{"image": f"{number}.png", "caption": captions_of(number, 2)} for number in range(12)]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def write_addresses(folder: Path) -> Path:
    """Google's list of captions and addresses beside the images."""
    (folder / "images").mkdir(parents=True)
    for number in range(12):
        (folder / "images" / f"{number:08d}.png").write_bytes(picture(number))
    lines = [f"caption {number}\thttps://example.org/{number}" for number in range(12)]
    (folder / "captions.tsv").write_text("\n".join(lines))
    return folder


def write_coco(folder: Path) -> Path:
    """COCO's own caption files of two parts."""
    import json

    for part, numbers in (("train2017", range(8)), ("val2017", range(8, 14))):
        (folder / part).mkdir(parents=True)
        for number in numbers:
            (folder / part / f"{number}.jpg").write_bytes(picture(number, "JPEG"))
        content = {
            "images": [{"id": number, "file_name": f"{number}.jpg"} for number in numbers],
            "annotations": [{"id": number, "image_id": number, "caption": f"a {number}"} for number in numbers],
        }
        (folder / f"captions_{part}.json").write_text(json.dumps(content))
    return folder


SETS: dict[str, tuple[str, Callable[[Path], Path], dict[str, Any]]] = {
    **{name: (name, write, {}) for name, write in WRITE.items()},
    "imagenet": ("imagenet", WRITE["imagenet"], {"classes": "present"}),
    "conceptual_captions": ("conceptual_captions", WRITE["conceptual_captions"], {"test": 4}),
    "lines": ("image_text", write_lines, {}),
    "addresses": ("conceptual_captions", write_addresses, {"test": 4}),
    "annotations": ("coco", write_coco, {}),
}


def read(name: str, folder: Path, options: dict[str, Any]) -> str:
    """Load a set and read all of it; returns what is wrong, if that is neither splits nor a message."""
    try:
        splits = load_data(name, path=str(folder), **SIZES, **options)
        for _, split in splits:
            assert split.fingerprint
            for index in range(len(split)):
                for field in split.inputs:
                    assert MEASURED[field](split.fields[field][index])
                "".join(split.captions[index] if split.captions else ()).encode()
        return ""
    except UserError as error:
        told = str(error)
        return "" if told and "Traceback" not in told and " object at 0x" not in told else f"no message: {told}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def in_time(name: str, folder: Path, options: dict[str, Any]) -> str:
    """`read`, given up where it does not end, as where it waits for the other end of a FIFO."""
    found = ["it does not end"]
    thread = threading.Thread(target=lambda: found.append(read(name, folder, options)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[-1]


@pytest.mark.parametrize("kind", SETS)
def test_any_data_set_loads_or_is_refused(kind: str, tmp_path: Path) -> None:
    name, write, options = SETS[kind]
    sound = write(tmp_path / "sound")
    assert read(name, sound, options) == ""
    wrong = []
    for seed in range(SEEDS.get(kind, 40)):
        folder = Path(shutil.copytree(sound, tmp_path / f"{seed}"))
        done = mutate_data(folder, seed)
        given = options | ({"unreadable": "skip"} if seed % 3 == 0 else {})
        if found := in_time(name, folder, given):
            wrong.append(f"{seed} {done}: {found}")
        shutil.rmtree(folder)
    assert wrong == []
