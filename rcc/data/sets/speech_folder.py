"""Load sounds from one folder a class, or from parquet files with labels."""

from __future__ import annotations

from rcc.data.cutting import Cut, cut
from rcc.data.files.sounds import soundfile
from rcc.data.sets.labelled_items import class_names_of, labelled_items
from rcc.data.splits import Splits

DATASET = "speech_folder"


def load_speech_folder(
    path: str | None = None,
    names: str | None = None,
    per_class: int | None = None,
    train: int | None = None,
    calibration: int | None = 64,
    selection: int | None = 200,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Classes from the folders' names, parts from train/, val/ and test/ where the folder has them.

    Args:
        path: a folder with <class>/ folders of sounds, or with train/<class>/, val/<class>/, test/<class>/; or parquet
            files or a name on the hub, with columns of sounds and class labels.
        names: a JSON file of class name by folder name; by default the folder's name, underscores as spaces.
        per_class: at most that many sounds of each class of each part, chosen by the seed; None: all.
        train, calibration, selection, test: sounds; None for all that is left of the part.
        unreadable: 'refuse' a sound that cannot be decoded when it is met, or 'skip': decode all once and leave them
            out.

    Raises:
        UserError: no soundfile, no class folders, a class without a sound or a name, or fewer sounds than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    soundfile()
    parts, classes = labelled_items(DATASET, path, "audio", per_class, seed)
    return cut(DATASET, parts, how, class_names_of(DATASET, classes, names))
