"""Divide a data set of named fields into splits: seeded, stratified where there are labels, sharing no item.

Calibration feeds stages, selection feeds the gate and sweeps, test is touched once, for the final report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.data.fields import Field, Values, as_field
from rcc.data.files.images import Images
from rcc.errors import Problems, UserError

ROLES = ("train", "calibration", "selection", "test")
DESCRIBING = ("texts", "captions", "labels", "pairs", "titles", "judgements")
"""Fields that describe an item of others; texts alone are inputs."""
BESIDE = ("pairs", "titles", "judgements")
"""Those of them that are fields like any others."""


class Split:
    """N items, each with a value in every named field.

    Fields are named as the parameters of an adapter's `prepare`: 'images', 'texts', or any others such as 'audio' and
    'graphs'. Some of them describe the others: `captions`, what people wrote, one or more for each item; `labels` (N,),
    indices into the class names; and `texts` beside other inputs, one to pair with each item in calibration and
    training, its first caption unless given. Of texts alone: `pairs`, a text that says the same, `titles` of documents,
    and `judgements` of queries, the (document, grade) pairs that people gave.

    Attributes:
        name: of the split: one of `ROLES`.
        fields: those that the set has, by name, each of length N.
    """

    def __init__(
        self,
        name: str,
        images: Images | None = None,
        captions: Sequence[tuple[str, ...]] = (),
        labels: NDArray[Any] | None = None,
        texts: Sequence[str] | Values = (),
        **others: Any,
    ) -> None:
        """Raises:
        UserError: no field, fields that differ in length, or an item without a caption where others have some.
        """
        self.name = name
        self.fields: dict[str, Field] = {} if images is None else {"images": images}
        self.fields |= {other: as_field(values) for other, values in others.items()}
        if len(captions) and not len(texts):
            texts = tuple(written[0] if written else "" for written in captions)
        written = (("captions", captions), ("texts", texts))
        self.fields |= {what: as_field(found) for what, found in written if len(found)}
        if labels is not None:
            self.fields["labels"] = Values(labels)
        problems = Problems(f"split '{name}'")
        if problems.check(bool(self.fields), "there is no field: give images, texts, or others by name, as audio=."):
            for what, field in self.fields.items():
                problems.check(
                    len(field) == len(self), f"{len(self)} {self.noun} and {len(field)} {what} differ in number."
                )
            without = [index for index, written in enumerate(captions) if not written]
            first = f"'{self.input.name(without[0])}'" if without else "none"
            problems.check(not without, f"{len(without)} {self.noun} have no caption; the first is {first}.")
        problems.done()

    def __len__(self) -> int:
        return len(self.input)

    def __repr__(self) -> str:
        return f"Split('{self.name}', {len(self)} items of {', '.join(self.fields)})"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields that make an item what it is: all but those that describe others; texts where they stand alone."""
        found = tuple(name for name in self.fields if name not in DESCRIBING)
        return found or next((name,) for name in (*DESCRIBING, *self.fields) if name in self.fields)

    @property
    def input(self) -> Field:
        """The first of its `inputs`, whose names messages use."""
        return self.fields[self.inputs[0]]

    @property
    def noun(self) -> str:
        """The name of its items in messages."""
        return self.inputs[0] if self.inputs in (("images",), ("texts",)) else "items"

    @property
    def images(self) -> Images:
        """Its images, decoded when asked for.

        Raises:
            UserError: it has none.
        """
        found = self.fields.get("images")
        if not isinstance(found, Images):
            raise UserError(f"split '{self.name}' has no images; its fields are {', '.join(self.fields)}.")
        return found

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """The captions of each item; () where the set has none."""
        return self._written("captions")

    @property
    def texts(self) -> tuple[str, ...]:
        """One text for each item; () where the set has none."""
        return self._written("texts")

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) index into the class names; None where the set has no classes, or its labels are no whole numbers."""
        found = getattr(self.fields.get("labels"), "values", None)
        whole = isinstance(found, np.ndarray) and found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
        return found if whole else None

    def _written(self, name: str) -> Any:
        field = self.fields.get(name)
        return () if field is None else field.values if isinstance(field, Values) else tuple(field[:])

    def items(self, indices: Iterable[int], names: Iterable[str]) -> dict[str, list[Any]]:
        """The values at `indices` in those of the named fields that the split has, decoded now."""
        taken = [int(index) for index in indices]
        return {name: [self.fields[name][index] for index in taken] for name in names if name in self.fields}

    def subset(self, indices: NDArray[np.int64]) -> Split:
        """The items at `indices`, in that order."""
        part = self._with({name: field.subset(indices) for name, field in self.fields.items()})
        if "digests" in vars(self):  # known already, and a pass over the files saved
            vars(part)["digests"] = [self.digests[index] for index in indices]
        return part

    def as_role(self, role: str, texts: Sequence[str] = ()) -> Split:
        """The same items under another name, with `texts` in place of its own where they are given."""
        part = self._with({**self.fields, **({"texts": Values(texts)} if len(texts) else {})})
        part.name = role
        if "digests" in vars(self) and part.inputs == self.inputs and "texts" not in self.inputs:
            vars(part)["digests"] = self.digests
        return part

    def _with(self, fields: Mapping[str, Field]) -> Split:
        part = Split.__new__(Split)
        part.name, part.fields = self.name, dict(fields)
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
        """SHA-256 of each item's inputs as they are stored: what two splits must not share."""
        columns = [self.fields[name].digests() for name in self.inputs]
        if len(columns) == 1:
            return columns[0]
        return [hashlib.sha256(b"".join(parts)).digest() for parts in zip(*columns, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of all its fields."""
        checksum = hashlib.sha256(repr((len(self), self.captions, self.texts)).encode())
        for digest in self.digests:
            checksum.update(digest)
        if self.labels is None and "labels" in self.fields:  # of regression, or several for an item
            checksum.update(b"".join(self.fields["labels"].digests()))
        else:
            checksum.update(b"none" if self.labels is None else self.labels.astype(np.int64).tobytes())
        for name in BESIDE:
            if name in self.fields:
                checksum.update(name.encode() + b"".join(self.fields[name].digests()))
        return checksum.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of one data set, what its classes are called and how prompts speak of them.

    `train` may be empty; the others may not. `class_names` and `templates` are () where there are no classes. `notes`
    are sentences for the user about what was left out in cutting them. `corpus` holds the documents that the texts of
    selection and test are queries of, and is no split: calibration and training are cut from it.
    `fingerprint` is a checksum of all of it: two runs with the same fingerprint saw the same data.
    """

    train: Split
    calibration: Split
    selection: Split
    test: Split
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    corpus: Split | None = None

    def __post_init__(self) -> None:
        problems = Problems("data")
        for role, split in self:
            problems.check(
                len(split) > 0 or role == "train",
                f"split '{role}' holds no {split.noun}; give it a size of at least 1, or check that its files are"
                " there.",
            )
            with problems.collecting():
                check_labels(split, self.class_names)
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
        if self.corpus is not None:
            checksum.update(f"corpus {self.corpus.fingerprint}".encode())
        return checksum.hexdigest()


def class_texts(labels: NDArray[np.int64], class_names: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """A prompt for each item: its class's name in the templates in turn, so that what learns from the texts sees
    every way of putting it."""
    return tuple(
        templates[index % len(templates)].replace("{}", class_names[label]) for index, label in enumerate(labels)
    )


def check_labels(split: Split, class_names: Sequence[str]) -> None:
    """Refuse a label that has no class name.

    Raises:
        UserError: says the highest.
    """
    highest = -1 if split.labels is None or not len(split) else int(split.labels.max())
    if highest >= len(class_names):
        raise UserError(f"split '{split.name}' has the label {highest} and there are {len(class_names)} class names.")


def check_disjoint(splits: Sequence[Split]) -> None:
    """Refuse splits of which two hold an item with the same bytes.

    Raises:
        UserError: names every such pair of splits and the number of items they share.
    """
    seen = [(split.name, set(split.digests)) for split in splits]
    problems = Problems("data")
    for i, (first, items) in enumerate(seen):
        for second, others in seen[i + 1 :]:
            shared = len(items & others)
            problems.check(
                not shared,
                f"splits '{first}' and '{second}' have {shared} {splits[i].noun} in common; splits must not overlap.",
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
