"""Splits of a labelled image set: seeded, stratified, and checked to share no image.

Calibration feeds stages, selection feeds the gate and sweeps, test is touched once, for the final report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rcc.errors import Problems, UserError

ROLES = ("train", "calibration", "selection", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """`images` (N, H, W, 3) uint8, one caption and one label (index into the class names) for each."""

    name: str
    images: NDArray[np.uint8] = field(repr=False)
    captions: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)

    def __post_init__(self) -> None:
        problems = Problems(f"split '{self.name}'")
        shape, dtype = self.images.shape, self.images.dtype
        problems.check(
            dtype == np.uint8 and len(shape) == 4 and shape[-1] == 3,
            f"images are {dtype} of shape {shape}; they must be uint8 of shape (N, H, W, 3).",
        )
        problems.check(
            len(self.images) == len(self.captions) == len(self.labels),
            f"{len(self.images)} images, {len(self.captions)} captions and {len(self.labels)} labels differ.",
        )
        problems.check(len(self.images) > 0, "it holds no image; give it a size of at least 1.")
        problems.done()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, count: int) -> Split:
        """The first `count` items; any prefix is stratified as the whole is.

        Raises:
            UserError: `count` is not between 1 and the split's length.
        """
        if not 1 <= count <= len(self):
            raise UserError(f"split '{self.name}' holds {len(self)} items; {count} were asked for.")
        return Split(self.name, self.images[:count], self.captions[:count], self.labels[:count])

    @property
    def fingerprint(self) -> str:
        """A checksum of its images, captions and labels."""
        checksum = hashlib.sha256(repr((self.images.shape, self.captions)).encode())
        checksum.update(self.images.tobytes())
        checksum.update(self.labels.tobytes())
        return checksum.hexdigest()

    def digests(self) -> list[bytes]:
        """SHA-256 of each image's bytes."""
        return [hashlib.sha256(image.tobytes()).digest() for image in self.images]


@dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of one data set, what its classes are called and how prompts speak of them.

    `fingerprint` is a checksum of all of it: two runs with the same fingerprint saw the same data.
    """

    train: Split
    calibration: Split
    selection: Split
    test: Split
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        check_disjoint([split for _, split in self])
        object.__setattr__(self, "fingerprint", self._checksum())

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

    def _checksum(self) -> str:
        checksum = hashlib.sha256(repr((self.class_names, self.templates)).encode())
        for role, split in self:
            checksum.update(f"{role} {split.fingerprint}".encode())
        return checksum.hexdigest()


def check_disjoint(splits: Sequence[Split]) -> None:
    """Refuse splits of which two hold an image with the same bytes.

    Raises:
        UserError: names every such pair of splits and the number of images they share.
    """
    seen = [(split.name, set(split.digests())) for split in splits]
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
        UserError: a size below 1, or more items asked for than there are.
    """
    problems = Problems("data")
    for name, size in sizes.items():
        problems.check(
            isinstance(size, int) and size >= 1,
            f"split '{name}' has size {size}; it must be a whole number ≥ 1.",
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
