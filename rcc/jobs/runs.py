"""job=runs: list, show, compare, verify or clean up runs and sweeps, from their files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcc.errors import Problems, UserError, WorkError, listed
from rcc.jobs.cleaning import REMOVES, Removal, asked_first, removals, removed
from rcc.jobs.job import Job
from rcc.jobs.places import places_of
from rcc.jobs.run_checks import faults
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.formats import bytes_text
from rcc.reporting.page.comparable import differing
from rcc.reporting.recorded.finding import Found, found_in
from rcc.reporting.run_list import ORDERS, as_table, list_table, ordered, show_lines
from rcc.reporting.tables import Table

ACTIONS = ("list", "show", "diff", "verify", "clean")
STATUSES = ("finished", "abandoned", "failed", "interrupted", "stopped", "live", "damaged")
DEFAULT = ("outputs", "multirun")
WIDTH = 160  # of what is not a terminal: a table in a file is searched, not looked at


class Runs(Job):
    """Reads runs and sweeps; only clean changes anything."""

    places: list[Path]

    def read(self, found: Problems) -> None:
        super().read(found)
        settings = self.settings
        found.check(settings["dry_run"] is True, "dry_run=false has no effect: job=runs makes no folder. Leave it out.")
        found.choice("action", settings["action"], ACTIONS)
        found.choice("sort", settings["sort"], ORDERS)
        found.choice("remove", settings["remove"], REMOVES)
        found.flag("reverse", settings["reverse"])
        found.flag("yes", settings["yes"])
        text, status = settings["filter"], settings["status"]
        found.check(text is None or isinstance(text, str), f"filter is {text!r}; it must be a text.")
        self.statuses = [status] if isinstance(status, str) else status
        if found.check(status is None or isinstance(self.statuses, list), f"status is {status!r}; it must be a list."):
            for each in self.statuses or ():
                found.choice("status", each, STATUSES)
        self._refuse_without_effect(found)
        self.places = [] if settings["runs"] is None else places_of("job=runs", settings["runs"], found)

    def run(self) -> None:
        """Do what `action=` asks.

        Raises:
            UserError: there is nothing to do it with, or clean was not agreed to.
            WorkError: something that was verified is damaged.
        """
        terminal = Terminal(highlight=False)
        if not terminal.is_terminal:
            terminal.width = WIDTH
        found = self._found()
        action = self.settings["action"]
        if not found:
            places = [str(place) for place in self.places] or DEFAULT
            say(terminal, f"No run or sweep {'like that ' if self._filtered else ''}in {', '.join(places)}.")
        elif action == "list":
            draw(terminal, list_table(found))
        elif action == "show":
            for each in found:
                for part in show_lines(each):
                    draw(terminal, part) if isinstance(part, Table) else say(terminal, part)
        elif action == "diff":
            self._diff(terminal, found)
        elif action == "verify":
            _verify(terminal, found)
        else:
            self._clean(terminal, found)

    @property
    def _filtered(self) -> bool:
        return self.statuses is not None or self.settings["filter"] is not None

    def _refuse_without_effect(self, found: Problems) -> None:
        """Note options that the action does not look at."""
        settings = self.settings
        if settings["action"] in ACTIONS and settings["action"] != "clean":
            for option, default in (("remove", "state"), ("yes", False)):
                found.check(
                    settings[option] == default,
                    f"{option} has no effect with action={settings['action']}: only clean removes. Leave it out.",
                )
        elif settings["action"] == "clean" and settings["remove"] == "runs":
            found.check(
                settings["runs"] is not None or settings["status"] is not None,
                "remove=runs removes whole directories: say which, by runs=[<directory>] or status=[failed,stopped].",
            )

    def _found(self) -> list[Found]:
        """What is asked about, filtered and in order."""
        places = self.places or [Path(name) for name in DEFAULT]
        text = self.settings["filter"]
        found = [
            each
            for each in found_in(places, layers=self.settings["action"] in ("show", "diff"))
            if (self.statuses is None or each.status in self.statuses)
            and (text is None or text in f"{each.place} {each.asked}")
        ]
        return ordered(found, self.settings["sort"], self.settings["reverse"])

    def _diff(self, terminal: Terminal, found: Sequence[Found]) -> None:
        runs = {str(each.place): each.run for each in found if each.run is not None}
        others = [str(each.place) for each in found if each.run is None]
        if others or len(runs) < 2:
            told = f"{listed(others)} is a sweep or damaged; " if others else ""
            raise UserError(f"action=diff compares two runs or more: {told}name them, runs=[<directory>,<directory>].")
        names = {f"({number})": run for number, run in enumerate(runs.values(), 1)}
        for name, place in zip(names, runs, strict=True):
            say(terminal, f"{name} {place}")
        table = differing(names)
        if table is None:
            say(terminal, "Nothing differs: they were asked the same, by the same code on the same kind of machine.")
        else:
            draw(terminal, as_table(table))

    def _clean(self, terminal: Terminal, found: Sequence[Found]) -> None:
        due, kept = removals(found, self.settings["remove"])
        for place, reason in kept:
            say(terminal, f"kept: {place}: {reason}")
        if not due:
            say(terminal, "Nothing to remove.")
            return
        rows = tuple((str(each.path), each.what, bytes_text(each.nbytes)) for each in due)
        draw(terminal, Table(("to remove", "what", "size"), rows, 2))
        total = bytes_text(sum(each.nbytes for each in due))
        if not self.settings["yes"]:
            asked_first(f"Remove these {len(due)}, {total}?")
        say(terminal, f"Removed {_count(due)}, {total}.")


def _count(due: Sequence[Removal]) -> str:
    """Remove what is due; how many of them could be."""
    done = [each for each in due if removed(each)]
    return str(len(done)) if len(done) == len(due) else f"{len(done)} of {len(due)}: the others were taken up meanwhile"


def _verify(terminal: Terminal, found: Sequence[Found]) -> None:
    rows, damaged = [], 0
    for each in found:
        problems = faults(each)
        damaged += bool(problems)
        rows += [(str(each.place), each.status, problem) for problem in problems or ["sound"]]
    draw(terminal, Table(("run", "status", "verdict"), tuple(rows), 3))
    if damaged:
        raise WorkError(f"{damaged} of {len(found)} are damaged.")
