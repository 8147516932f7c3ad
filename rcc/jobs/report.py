"""job=report: draw report.html of runs and sweeps, from their files alone."""

from __future__ import annotations

from pathlib import Path

from rcc.errors import Problems
from rcc.jobs.job import Job
from rcc.jobs.places import places_of
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.formats import bytes_text
from rcc.reporting.page.write import FILE, read_place, refuse_other, write_page


class Report(Job):
    """Draws one page: of a run, of a sweep, or of several of either, where those of one model and data share an axis
    and others stand side by side."""

    places: list[Path]
    target: Path

    def read(self, found: Problems) -> None:
        super().read(found)
        found.check(
            self.settings["dry_run"] is True,
            "dry_run=false has no effect: job=report writes one page and nothing else. Leave it out.",
        )
        self.places = places_of("job=report", self.settings["runs"], found)
        out = self.settings["out"]
        if out is not None and not found.path("out", out):
            return
        for place in self.places:
            with found.collecting():
                read_place(place)
        self.target = Path(out) if out is not None else Path(FILE)
        if out is None and len(self.places) == 1:
            self.target = self.places[0] / FILE
        with found.collecting():
            refuse_other(self.target)

    def run(self) -> None:
        """Write the page."""
        path = write_page(self.places, self.target)
        say(Terminal(highlight=False), f"{path}: {bytes_text(path.stat().st_size)}, opens in any browser.")
