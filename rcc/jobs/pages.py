"""Draw report.html at the end of a run or a sweep, which has finished whatever becomes of its page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcc.command_line import command_line
from rcc.data.files.images import Images
from rcc.data.splits import Splits
from rcc.reporting.changed import write_pictures
from rcc.reporting.delivery import Delivery
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.page.write import FILE, write_page
from rcc.sweeps.trials import exclusive


def draw_page(directory: Path) -> None:
    """Write report.html of a run; where that fails, say so and how to try again."""
    with _warned(directory, FILE):
        write_page([directory])


def draw_sweep(folder: Path) -> None:
    """Write report.html of a sweep; of several processes that end at once, one after another."""
    with _warned(folder, FILE), exclusive(folder):
        print(f"Report: {write_page([folder])}", flush=True)


def keep_pictures(directory: Path, splits: Splits, delivery: Delivery) -> None:
    """Keep pictures of the items of the test split that changed, where they are images."""
    images = splits.test.fields.get("images")
    if isinstance(images, Images):
        with _warned(directory, "pictures of what changed"):
            write_pictures(directory, images, splits.fingerprint, delivery.dense, delivery.compressed)


@contextmanager
def _warned(directory: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong in the block into a warning."""
    try:
        yield
    except Exception as error:
        again = command_line("job=report", f"runs=[{directory}]")
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(Terminal(highlight=False), f"warning: {what} could not be written ({reason}). Later: {again}", "yellow")
