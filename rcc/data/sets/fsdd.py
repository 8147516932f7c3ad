"""Load the Free Spoken Digit Dataset: digits from zero to nine, spoken by six people (Jackson et al., 2016)."""

from __future__ import annotations

from rcc.data.cutting import Cut, cut
from rcc.data.files.columns import labelled
from rcc.data.files.sounds import soundfile
from rcc.data.files.tables import folder_of, read_tables
from rcc.data.sets.digits import CLASS_NAMES
from rcc.data.splits import Split, Splits
from rcc.errors import Problems

DATASET = "fsdd"


def load_fsdd(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = 64,
    selection: int | None = 200,
    test: int | None = None,
    seed: int = 0,
    unreadable: str = "refuse",
) -> Splits:
    """Test from the official test part; selection, calibration and train from the training part, stratified by digit.
    The same six people speak in both parts.

    Args:
        path: a folder with train and test parquet files, of columns `audio` and `label`, or a name on the hub.
        train, calibration, selection, test: recordings; None for all that is left of the part.
        unreadable: 'refuse' a recording that cannot be decoded when it is met, or 'skip': decode all once and leave
            them out.

    Raises:
        UserError: no soundfile, files that are missing, other classes, or fewer recordings than asked for.
    """
    how = Cut(train, calibration, selection, test, seed, unreadable)
    soundfile()
    parts: dict[str, Split] = {}
    problems, folder = Problems(f"data '{DATASET}'"), folder_of(path)
    for part, table in read_tables(DATASET, path).items():
        parts[part], stored = labelled(DATASET, part, table, folder, "audio")
        highest = int(parts[part].labels.max(initial=0))  # type: ignore[union-attr]
        problems.check(
            len(stored) in (0, len(CLASS_NAMES)) and highest < len(CLASS_NAMES),
            f"part '{part}' has {len(stored) or highest + 1} classes, not the ten digits; another data set is"
            " data=speech_folder.",
        )
    problems.done()
    return cut(DATASET, parts, how, CLASS_NAMES)
