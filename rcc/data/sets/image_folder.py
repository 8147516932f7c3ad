"""Load images from one folder a class, or from parquet files with labels."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.data.cutting import Cut, cut
from rcc.data.sets.labelled_items import class_names_of, labelled_items
from rcc.data.splits import Splits
from rcc.errors import Problems

DATASET = "image_folder"
TEMPLATES = ("a photo of a {}.",)


def load_image_folder(
    path: str | None = None,
    names: str | None = None,
    templates: Sequence[str] = TEMPLATES,
    per_class: int | None = None,
    train: int | None = None,
    calibration: int | None = 256,
    selection: int | None = 500,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Classes from the folders' names, parts from train/, val/ and test/ where the folder has them.

    Args:
        path: a folder with <class>/ folders, or with train/<class>/, val/<class>/, test/<class>/; or parquet files or a
            name on the hub, with a column of class labels.
        names: a JSON file of class name by folder name; by default the folder's name, underscores as spaces.
        templates: prompts, each with '{}' where the class name goes.
        per_class: at most that many images of each class of each part, chosen by the seed; None: all.
        train, calibration, selection, test: images; None for all that is left of the part.
        unreadable: 'refuse' an image that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: no class folders, a class without an image or a name, or fewer images than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    problems = Problems(f"data '{DATASET}'")
    problems.check(
        len(templates) > 0 and all(isinstance(each, str) and each.count("{}") == 1 for each in templates),
        f"templates are {list(templates)}; give one or more texts that hold '{{}}' once, for the class name.",
    )
    problems.done()
    parts, classes = labelled_items(DATASET, path, "images", per_class, seed)
    return cut(DATASET, parts, how, class_names_of(DATASET, classes, names), templates)
