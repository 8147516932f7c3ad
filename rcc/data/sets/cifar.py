"""CIFAR-10 and CIFAR-100: 32-pixel photographs of 10 and 100 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from rcc.data.cutting import Cut, cut
from rcc.data.files.columns import labelled
from rcc.data.files.tables import folder_of, read_tables
from rcc.data.sets.class_lists import class_names, templates
from rcc.data.splits import Split, Splits
from rcc.errors import Problems


def load_cifar10(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = 512,
    selection: int | None = 1000,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Test from the official test part; selection, calibration and train from the training part, stratified.

    Args:
        path: a folder with train and test parquet files, or a name on the hub.
        train, calibration, selection, test: images; None for all that is left of the part.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: files that are missing, other classes, or fewer images than asked for.
    """
    return _load("cifar10", path, Cut(train, calibration, selection, test, seed, unreadable))


def load_cifar100(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = 1000,
    selection: int | None = 2000,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """The same of the 100 fine classes."""
    return _load("cifar100", path, Cut(train, calibration, selection, test, seed, unreadable))


def _load(dataset: str, path: str | None, how: Cut) -> Splits:
    names = class_names(dataset)
    parts: dict[str, Split] = {}
    problems = Problems(f"data '{dataset}'")
    folder = folder_of(path)
    for part, table in read_tables(dataset, path).items():
        parts[part], stored = labelled(dataset, part, table, folder)
        highest = int(parts[part].labels.max(initial=0))  # type: ignore[union-attr]
        problems.check(
            len(stored) in (0, len(names)) and highest < len(names),
            f"part '{part}' has {len(stored) or highest + 1} classes ({', '.join(stored[:3]) or 'unnamed'}, …), not the"
            f" {len(names)} of {dataset}; another data set?",
        )
    problems.done()
    return cut(dataset, parts, how, names, templates("cifar"))
