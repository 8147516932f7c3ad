"""Tables of the `datasets` library: parquet and arrow files, folders it saved, and data sets of the hub.

A parquet file is converted once into the library's cache (HF_DATASETS_CACHE; about the size of the file), from where
rows are read by memory map. No code of a data set is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import is_offline_mode

from rcc.atomic import reading
from rcc.data.files.location import PARTS, WHOLE, entries, inside, located, official_part, part_folders
from rcc.data.files.records import told
from rcc.errors import UserError, abridged, path_fault
from rcc.limits import expanded, read_json, regular_file
from rcc.models.transformers.hub import why_unreachable

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = ("parquet", "arrow")
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves


def read_tables(dataset: str, path: str | Path | None) -> dict[str, Dataset]:
    """The tables at `path` by the name of their part: 'train', 'validation', 'test', as the library names them.

    Args:
        dataset: what messages call the data set.
        path: a file; a folder of files named train…, validation… or val…, test…, themselves or in its data/ or its
            train/, val/ and test/ (all are 'train' where no name says otherwise); a folder of `save_to_disk`; or a
            name on the hub such as 'uoft-cs/cifar10'.

    Raises:
        UserError: nothing there that can be read, or a hub that cannot be reached.
    """
    if _hub_name(path):
        return _from_hub(dataset, str(path))
    return read_local_tables(dataset, located(dataset, path))


def has_tables(path: str | Path | None) -> bool:
    """Whether `read_tables` is what reads `path`: a name on the hub, or files of a format it knows."""
    if path is None or not isinstance(path, (str, Path)):
        return False
    if _hub_name(path):
        return True
    here = expanded("data.path", path)
    return os.path.exists(here) and (_saved(here) or any(_files(here, kind) for kind in FORMATS))


def folder_of(path: str | Path | None) -> Path:
    """The folder that files which rows of the tables at `path` name must lie in; the library's cache for the hub's."""
    from datasets import config

    if path is None or _hub_name(path):
        return Path(config.HF_CACHE_HOME)
    here = expanded("data.path", path)
    return here if here.is_dir() else here.parent


def read_local_tables(dataset: str, path: Path) -> dict[str, Dataset]:
    """`read_tables` of files alone."""
    from datasets import Dataset, load_from_disk

    from rcc.data.files.conversion import converted

    if _saved(path):
        _check_saved(path)
        with _quiet(), _readable(path):
            found = load_from_disk(str(path))
        return {"train": found} if isinstance(found, Dataset) else {str(name): part for name, part in found.items()}
    for kind in FORMATS:
        if files := _files(path, kind):
            with _quiet(), _readable(path):
                return converted(kind, _by_part(files))
    raise UserError(
        f"data '{dataset}': '{path}' holds no {' or '.join(f'*.{kind}' for kind in FORMATS)} file; it holds"
        f" {entries(path)}. docs/data.md shows how the files are laid out."
    )


def _files(path: Path, kind: str) -> list[Path]:
    """The file itself; or those in the folder; or those in its data/, or in the folders of its parts."""
    if not path.is_dir():
        return [path] * (path.suffix == f".{kind}")
    for places in ((path,), (path / "data",), tuple(part_folders(path).values())):
        if files := sorted(file for place in places for file in place.glob(f"*.{kind}")):
            return [_regular(file) for file in files]
    return []


def _regular(file: Path) -> Path:
    with reading(file):
        return regular_file(file)


def _check_saved(path: Path) -> None:
    """Refuse a saved data set whose records name files elsewhere."""
    parts = [path]
    if (path / SAVED[0]).is_file():
        names = read_json(path / SAVED[0]).get("splits")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path / SAVED[0]} lists no splits: {told(names)}.")
        parts = [inside(path, name) for name in names]
    for part in parts:
        files = read_json(part / SAVED[1]).get("_data_files")
        for file in files if isinstance(files, list) else []:
            name = file.get("filename") if isinstance(file, dict) else None
            _regular(inside(part, name if isinstance(name, str) else ""))


def _by_part(files: Sequence[Path]) -> dict[str, list[str]]:
    """The files by the part that their own name speaks of, or else their folder is; 'train' where neither does."""
    parts: dict[str, list[str]] = {}
    for file in files:
        named = official_part(file.stem)
        part = PARTS.get(file.parent.name.lower(), "train") if named == WHOLE else named
        parts.setdefault(part, []).append(str(file))
    return parts


def _saved(path: Path) -> bool:
    return any((path / name).is_file() for name in SAVED)


def _hub_name(path: Any) -> bool:
    """Whether a path reads like owner/name on the hub, and neither it nor its folder is here."""
    if not isinstance(path, str) or path.count("/") != 1 or path.startswith((".", "/", "~")) or path.endswith("/"):
        return False
    return not path_fault(path) and not os.path.exists(path) and not Path(path).parent.is_dir()


def _from_hub(dataset: str, name: str) -> dict[str, Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    # The library asks an unreachable hub six times, for 23 s. Told to be offline, it looks into its cache at once.
    reason = why_unreachable()
    try:
        if reason and not is_offline_mode():
            raise ConnectionError(f"{reason}; if it was downloaded before, HF_HUB_OFFLINE=1 takes it from the cache")
        with _quiet():
            return {str(part): table for part, table in load_dataset(name).items()}
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        told = f"{reason}, and the cache does not hold it" if is_offline_mode() else str(error)
        raise UserError(
            f"data '{dataset}': data.path={name} is no folder here, so it was taken for a name on the hub, and it"
            f" cannot be had: {told}. Give the folder of its files, or check the name."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and remarks."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils import logging

    bars, level = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            enable_progress_bars()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # on damaged files the library raises errors of any kind
        reason = abridged(" ".join(str(error.__cause__ or error).split()), 400)
        raise UserError(
            f"'{path}' cannot be read ({type(error).__name__}: {reason}). Check that the files are whole, and that the"
            " cache folder (HF_DATASETS_CACHE) can be written."
        ) from error
