"""Splits of an image set: seeded, stratified where there are labels, and checked to share no image.

Calibration feeds stages, selection feeds the gate and sweeps, test is touched once, for the final report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rcc.data.files.images import Images
from rcc.errors import Problems, UserError

ROLES = ("train", "calibration", "selection", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """N images and what is known of each.

    Attributes:
        name: of the split: one of `ROLES`.
        images: N of them, decoded when asked for.
        captions: what people wrote, one or more for each image; () where the set has none.
        labels: (N,) index into the class names; None where the set has no classes.
        texts: one text for each image to pair with it in calibration and training; its first caption unless given.
            () where there is nothing to pair it with.
    """

    name: str
    images: Images = field(repr=False)
    captions: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    labels: NDArray[np.int64] | None = field(default=None, repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        problems = Problems(f"split '{self.name}'")
        count = len(self.images)
        for what, found in (("captions", self.captions), ("texts", self.texts)):
            problems.check(len(found) in (0, count), f"{count} images and {len(found)} {what} differ in number.")
        labels = 0 if self.labels is None else len(self.labels)
        problems.check(self.labels is None or labels == count, f"{count} images and {labels} labels differ in number.")
        without = [index for index, written in enumerate(self.captions) if not written]
        problems.check(not without, f"{len(without)} images have no caption; the first is {self._named(without)}.")
        problems.done()
        if self.captions and not self.texts:
            object.__setattr__(self, "texts", tuple(written[0] for written in self.captions))

    def _named(self, indices: Sequence[int]) -> str:
        return f"'{self.images.name(indices[0])}'" if indices else "none"

    def __len__(self) -> int:
        return len(self.images)

    def pictures(self, start: int = 0, stop: int | None = None) -> list[Image.Image]:
        """The images from `start` up to `stop`, decoded."""
        return list(self.images[start:stop])

    def subset(self, indices: NDArray[np.int64]) -> Split:
        """The items at `indices`, in that order."""
        part = Split(
            self.name,
            self.images.subset(indices),
            tuple(self.captions[index] for index in indices) if self.captions else (),
            None if self.labels is None else self.labels[indices],
            tuple(self.texts[index] for index in indices) if self.texts else (),
        )
        if "digests" in vars(self):  # known already, and a pass over the files saved
            vars(part)["digests"] = [self.digests[index] for index in indices]
        return part

    def take(self, count: int) -> Split:
        """The first `count` items; any prefix is stratified as the whole is.

        Raises:
            UserError: `count` is not between 1 and the split's length.
        """
        if not 1 <= count <= len(self):
            raise UserError(f"split '{self.name}' holds {len(self)} items; {count} were asked for.")
        return self.subset(np.arange(count))

    @cached_property
    def digests(self) -> list[bytes]:
        """SHA-256 of each image as it is stored."""
        return self.images.digests()

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of its images, captions, texts and labels."""
        checksum = hashlib.sha256(repr((len(self), self.captions, self.texts)).encode())
        for digest in self.digests:
            checksum.update(digest)
        checksum.update(b"none" if self.labels is None else self.labels.astype(np.int64).tobytes())
        return checksum.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of one data set, what its classes are called and how prompts speak of them.

    `train` may be empty; the others may not. `class_names` and `templates` are () where there are no classes. `notes`
    are sentences for the user about what was left out in cutting them.
    `fingerprint` is a checksum of all of it: two runs with the same fingerprint saw the same data.
    """

    train: Split
    calibration: Split
    selection: Split
    test: Split
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = Problems("data")
        for role, split in self:
            problems.check(
                len(split) > 0 or role == "train",
                f"split '{role}' holds no image; give it a size of at least 1, or check that its files are there.",
            )
            highest = -1 if split.labels is None or not len(split) else int(split.labels.max())
            problems.check(
                highest < len(self.class_names),
                f"split '{role}' has the label {highest} and there are {len(self.class_names)} class names.",
            )
        problems.done()
        check_disjoint([split for _, split in self])

    def __iter__(self) -> Iterator[tuple[str, Split]]:
        for role in ROLES:
            yield role, getattr(self, role)

    def __getitem__(self, role: str) -> Split:
        if role not in ROLES:
            raise KeyError(role)
        split: Split = getattr(self, role)
        return split

    def sizes(self) -> dict[str, int]:
        """Number of items by role."""
        return {role: len(split) for role, split in self}

    @cached_property
    def fingerprint(self) -> str:
        checksum = hashlib.sha256(repr((self.class_names, self.templates)).encode())
        for role, split in self:
            checksum.update(f"{role} {split.fingerprint}".encode())
        return checksum.hexdigest()


def class_texts(labels: NDArray[np.int64], class_names: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """A prompt for each item: its class's name in the templates in turn, so that what learns from the texts sees
    every way of putting it."""
    return tuple(
        templates[index % len(templates)].replace("{}", class_names[label]) for index, label in enumerate(labels)
    )


def check_disjoint(splits: Sequence[Split]) -> None:
    """Refuse splits of which two hold an image with the same bytes.

    Raises:
        UserError: names every such pair of splits and the number of images they share.
    """
    seen = [(split.name, set(split.digests)) for split in splits]
    problems = Problems("data")
    for i, (first, images) in enumerate(seen):
        for second, others in seen[i + 1 :]:
            shared = len(images & others)
            problems.check(
                not shared,
                f"splits '{first}' and '{second}' have {shared} images in common; splits must not overlap.",
            )
    problems.done()


def stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A seeded order of the items of which every contiguous slice is stratified.

    The k-th of a class's n shuffled items is put at (k + u) / n of the way, with one random offset u in [0,
    1) for the class; so a slice of share p holds p · n of them, give or take one.
    """
    random = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + random.random()) / len(members)
    return np.argsort(place, kind="stable")


def stratified_parts(labels: NDArray[np.int64], sizes: Mapping[str, int], seed: int) -> dict[str, NDArray[np.int64]]:
    """Disjoint, stratified sets of indices into `labels`, of exactly the asked sizes, in the order given.

    Raises:
        UserError: a size below 1 (0 for `train`, which may be empty), or more items asked for than there are.
    """
    problems = Problems("data")
    for name, size in sizes.items():
        least = 0 if name == "train" else 1
        problems.check(
            isinstance(size, int) and size >= least,
            f"split '{name}' has size {size}; it must be a whole number ≥ {least}.",
        )
    problems.done()
    asked = sum(sizes.values())
    problems.check(
        asked <= len(labels),
        f"{' + '.join(f'{size} {name}' for name, size in sizes.items())} = {asked} items are asked for and"
        f" {len(labels)} exist; make a split smaller.",
    )
    problems.done()
    order = stratified_order(labels, seed)
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = order[start : start + size]
        start += size
    return parts
