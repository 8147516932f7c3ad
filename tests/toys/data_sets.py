"""Whole data sets of a few images, laid out as each data= expects them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from toys.files import captions_of, picture, sound, write_table, write_tar

from rcc.data.splits import Split, Splits

Rows = list[tuple[str, str]]
CLASSES = (0, 1, 2, 207, 999)
"""Labels of the classes of ImageNet that there are images of."""
PARTS = {"train": range(0, 6), "restval": range(6, 8), "val": range(8, 11), "test": range(11, 15)}
"""The images of Karpathy's parts."""


def write_classes(folder: Path, each: int, start: int = 0, labels: tuple[int, ...] = CLASSES) -> Path:
    """`each` images of each class of ImageNet; no two the same."""
    from rcc.data.sets.class_lists import wnids

    for place, label in enumerate(labels):
        where = folder / wnids()[label]
        where.mkdir(parents=True)
        for number in range(each):
            name = f"{wnids()[label]}_{number}.JPEG"
            (where / name).write_bytes(picture(start + place * each + number, "JPEG"))
    return folder


def write_imagenet(folder: Path) -> Path:
    """train/ with six and val/ with four images of each of `CLASSES`."""
    write_classes(folder / "train", 6)
    write_classes(folder / "val", 4, start=1000)
    return folder


def write_cifar(folder: Path, classes: int, each: int = 4) -> Path:
    """`each` images of each class in either part."""
    from datasets import ClassLabel

    from rcc.data.sets.class_lists import class_names

    label = ClassLabel(names=[name.replace(" ", "_") for name in class_names(f"cifar{classes}")])
    column = "label" if classes == 10 else "fine_label"
    for part, start in (("train", 0), ("test", classes * each)):
        images = [picture(start + number, size=(4, 4)) for number in range(classes * each)]
        write_table(
            folder / f"{part}.parquet", {"image": images, column: list(range(classes)) * each}, **{column: label}
        )
    return folder


def write_fsdd(folder: Path, each: int = 3) -> Path:
    """`each` chords for each digit in the training part, and one in the test part."""
    for part, start, count in (("train", 0, each), ("test", 10 * each, 1)):
        sounds = [sound(start + number, number % 10) for number in range(10 * count)]
        write_table(folder / f"{part}.parquet", {"audio": sounds, "label": list(range(10)) * count})
    return folder


def write_speech(folder: Path, each: int = 14) -> Path:
    """Sounds of two classes in three formats at three rates, every third one in a folder further down."""
    kinds = (("wav", 8000, ""), ("flac", 16_000, ""), ("ogg", 44_100, "deeper"))
    for place, name in enumerate(("go_left", "stop")):
        for number in range(each):
            kind, rate, below = kinds[number % 3]
            where = folder / name / below
            where.mkdir(parents=True, exist_ok=True)
            (where / f"{number}.{kind}").write_bytes(sound(place * each + number, 5 * place, kind.upper(), rate))
    return folder


def write_pets(folder: Path, each: int, start: int = 0) -> Path:
    """Images of dogs and of cats, every other one in a folder further down."""
    for place, name in enumerate(("big_dog", "cat")):
        (folder / name / "deeper").mkdir(parents=True)
        for number in range(each):
            kind, where = (("png", name), ("jpg", f"{name}/deeper"))[number % 2]
            (folder / where / f"{number}.{kind}").write_bytes(picture(start + place * each + number))
    return folder


def write_karpathy(folder: Path, name: str = "coco", **changed: Any) -> Path:
    """A caption file and its images: six for training, two of COCO's validation images that train as well, three for
    validation, four for test."""
    images = []
    for split, numbers in PARTS.items():
        for number in numbers:
            place = {"filepath": "train2014" if split == "train" else "val2014"} if name == "coco" else {}
            where = folder / place.get("filepath", "flickr30k-images")
            where.mkdir(parents=True, exist_ok=True)
            (where / f"{number:04d}.jpg").write_bytes(picture(number, "JPEG"))
            sentences = [{"raw": text, "tokens": text.split()} for text in captions_of(number)]
            images.append({"filename": f"{number:04d}.jpg", "split": split, "sentences": sentences} | place)
    content = {"images": images, "dataset": name} | changed
    (folder / f"dataset_{name}.json").write_text(json.dumps(content))
    return folder


def write_flickr8k(folder: Path) -> Path:
    """12 training, 4 validation and 5 test images in parquet files, with five captions each."""
    start = 0
    for part, count in (("train", 12), ("validation", 4), ("test", 5)):
        numbers = range(start, start + count)
        columns = {
            "image": [picture(number, "JPEG") for number in numbers],
            "captions": [captions_of(number) for number in numbers],
            "filename": [f"{number}.jpg" for number in numbers],
        }
        write_table(folder / f"{part}.parquet", columns)
        start += count
    return folder


def write_shard(path: Path, start: int, count: int) -> Path:
    """Samples with a JSON record each, as img2dataset writes them; captions of the second half stand there alone."""
    samples: dict[str, dict[str, bytes | str]] = {}
    for number in range(start, start + count):
        caption = f"caption {number}"
        samples[f"{number:09d}"] = {
            "jpg": picture(number, "JPEG"),
            "json": json.dumps({"caption": caption, "url": "https://example.org", "status": "success"}),
        } | ({"txt": caption} if number < start + count // 2 else {})
    return write_tar(path, samples)


def write_csv(file: Path, rows: Rows) -> None:
    """Lines of path and caption, separated by tabs where the name ends so."""
    mark = "\t" if file.suffix == ".tsv" else ","
    lines = [mark.join(("path", "caption")), *(mark.join((path, f'"{text}"')) for path, text in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")  # as spreadsheets write it


def write_captioned_files(folder: Path) -> Path:
    """12 images under images/ and captions.csv with two captions of each."""
    (folder / "images").mkdir(parents=True)
    for number in range(12):
        (folder / "images" / f"{number}.png").write_bytes(picture(number))
    rows = [(f"{number}.png", text) for number in range(12) for text in captions_of(number, 2)]
    write_csv(folder / "captions.csv", rows)
    return folder


SUBJECTS = ("dog", "cat", "digit", "photo")


def documents(count: int = 24) -> list[dict[str, str]]:
    """Documents of one of `SUBJECTS` each, no two the same; the last is empty."""
    from toys.checkpoints import LETTERS, WORDS

    found = []
    for number in range(count):
        subject = SUBJECTS[number % len(SUBJECTS)]
        words = [WORDS[(number * 5 + place) % len(WORDS)] for place in range(3)]
        text = f"{subject} {' '.join(words)} {LETTERS[number % 26]}"
        found.append({"_id": f"d{number}", "title": f"a {subject}", "text": text})
    found[-1] |= {"title": "", "text": ""}
    return found


def write_documents(folder: Path) -> Path:
    """24 documents, five queries that ask for a subject each, with grades for the first twelve documents."""
    (folder / "qrels").mkdir(parents=True)
    lines = {"corpus.jsonl": documents(), "queries.jsonl": []}
    lines["queries.jsonl"] = [{"_id": f"q{place}", "text": f"the {each} is red"} for place, each in enumerate(SUBJECTS)]
    lines["queries.jsonl"].append({"_id": "q4", "text": "nobody judged this"})
    for name, records in lines.items():
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = [(f"q{number % 4}", f"d{number}", 2 - number // 8) for number in range(12)]
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    (folder / "qrels/test.tsv").write_text("\n".join(rows) + "\n")
    return folder


def write_cranfield(folder: Path) -> Path:
    """The same documents in TREC's edition; queries carry the numbers 1, 2, 4, 8 and judgements count them from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [
        f"<doc>\n<docno>{each['_id']}</docno>\n<title>{each['title']}</title>\n<author>a</author>\n"
        f"<text>{each['title']}\n{each['text']}</text>\n</doc>"
        for each in documents()
    ]
    (folder / "cran.all.1400.xml").write_text("\n".join(blocks))
    queries = [
        f"<top>\n<num> {2**place}</num>\n<title>\nthe {subject}\nis red\n</title>\n</top>"
        for place, subject in enumerate(SUBJECTS)
    ]
    (folder / "cran.qry.xml").write_text("<xml>\n" + "\n".join(queries) + "\n</xml>")
    rows = [f"{1 + number % 4} 0 d{number} {int(number < 8)}" for number in range(12)]
    (folder / "qrels.txt").write_text("\n".join(rows) + "\n")
    return folder


WRITE = {
    "cifar10": lambda folder: write_cifar(folder, 10),
    "cifar100": lambda folder: write_cifar(folder, 100),
    "coco": write_karpathy,
    "cranfield": write_cranfield,
    "conceptual_captions": lambda folder: write_shard(folder / "00000.tar", 0, 16).parent,
    "documents": write_documents,
    "flickr30k": lambda folder: write_karpathy(folder, "flickr30k"),
    "flickr8k": write_flickr8k,
    "fsdd": write_fsdd,
    "image_folder": lambda folder: write_pets(folder, 12),
    "image_text": write_captioned_files,
    "imagenet": write_imagenet,
    "speech_folder": write_speech,
}
"""Writes the data set of a data= into a folder and returns the folder."""


def of_one_class(splits: Splits, name: str) -> Splits:
    """The images of other data, as if all were of one class."""
    parts = (splits.train, splits.calibration, splits.selection, splits.test)
    labelled = [Split(part.name, part.images, labels=np.zeros(len(part), dtype=np.int64)) for part in parts]
    return Splits(*labelled, class_names=(name,), templates=splits.templates)
