"""Where a data set lies: a path given, there, and of the right kind, or an error that shows what is there instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rcc.errors import UserError, nearest

SHOWN = 8  # entries a message shows


def located(dataset: str, path: str | Path | None) -> Path:
    """`path` as it is, once it is known to exist.

    Raises:
        UserError: no path, or nothing there; the message shows what lies beside it.
    """
    if path is None:
        raise UserError(
            f"data '{dataset}' needs the place of its files: give data.path=<folder>. docs/data.md shows how the folder"
            " looks."
        )
    if not isinstance(path, (str, Path)):
        raise UserError(f"data.path is {path!r}, which is no text; write data.path=./{path}.")
    path = Path(path).expanduser()
    if path.exists():
        return path
    parent = next(above for above in path.absolute().parents if above.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    names = sorted(entry.name for entry in parent.iterdir())
    raise UserError(
        f"data.path={path} does not exist.{nearest(missing, names)} '{parent}' holds {shown(names)}; docs/data.md shows"
        f" how the files of '{dataset}' are laid out."
    )


def shown(names: Iterable[str]) -> str:
    """The first few names for a message, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(f"'{name}'" for name in names[:SHOWN]) + rest) or "nothing"


def entries(folder: Path) -> str:
    """The first entries of a folder, folders with a slash, for a message."""
    if not folder.is_dir():
        return f"the file '{folder.name}'"
    found = sorted(folder.iterdir(), key=lambda entry: (entry.is_file(), entry.name))
    return shown(entry.name + ("/" if entry.is_dir() else "") for entry in found)
