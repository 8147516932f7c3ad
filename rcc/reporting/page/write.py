"""Write report.html for a run, a sweep, or several of either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcc.atomic import write_text
from rcc.errors import UserError
from rcc.limits import regular_file
from rcc.reporting.page.render import MARK, rendered
from rcc.reporting.page.run_view import run_view
from rcc.reporting.page.set_view import set_view
from rcc.reporting.page.sweep_view import sweep_view
from rcc.reporting.recorded.run import RecordedRun, read_run
from rcc.reporting.recorded.sweep import RecordedSweep, no_sweep, read_sweep
from rcc.reporting.run_manifest import FILE as RUN
from rcc.sweeps.record import is_sweep

FILE = "report.html"


def write_page(places: Sequence[Path], target: Path | None = None) -> Path:
    """Write the page of a run, a sweep, or several, and return its path.

    Args:
        places: their directories.
        target: the file; None: report.html in the folder of the one there is.

    Raises:
        UserError: a place holds neither a run nor a sweep, or a damaged one; another file stands at `target`.
    """
    target = places[0] / FILE if target is None else target
    refuse_other(target)
    write_text(target, page_text(places))
    return target


def page_text(places: Sequence[Path]) -> str:
    """The page as text.

    Raises:
        UserError: a place holds neither a run nor a sweep, or a damaged one.
    """
    if len(places) > 1:
        view = set_view([str(place) for place in places], [read_place(place, layers=True) for place in places])
        return rendered("set.html", view=view, title=", ".join(place.resolve().name for place in places[:6]))
    found = read_place(places[0], layers=True)
    if isinstance(found, RecordedSweep):
        return rendered("sweep.html", view=sweep_view(found), title=f"Sweep {found.folder.resolve().name}")
    return rendered("run.html", view=run_view(found), title=found.name)


def read_place(place: Path, layers: bool = False) -> RecordedRun | RecordedSweep:
    """What a directory holds.

    Raises:
        UserError: neither a run nor a sweep, or a damaged one.
    """
    if is_sweep(place):
        return read_sweep(place)
    if not (place / RUN).exists():
        raise no_sweep(place)
    return read_run(place, layers)


def refuse_other(target: Path) -> None:
    """Refuse to overwrite a file that is no page of ours.

    Raises:
        UserError: such a file is there.
    """
    if not target.exists():
        return
    with regular_file(target).open("rb") as file:
        if not file.read(200).lstrip().startswith(b"<!doctype html>\n" + MARK.encode()):
            raise UserError(f"{target} is there and is no report that rcc wrote. Name another file with out=.")
