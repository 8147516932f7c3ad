"""Collect the observers of a run: the console, the metrics log, and whatever `logger=` adds."""

from __future__ import annotations

from rcc.errors import UserError, unknown
from rcc.jobs.request import Request
from rcc.reporting.console import Console
from rcc.reporting.metrics_log import MetricsLog
from rcc.reporting.observers import Observers, RunObserver

LOGGERS = ("local", "wandb")


def watchers(request: Request) -> Observers:
    """The observers of a run.

    Raises:
        UserError: `logger.name` is not one that exists.
    """
    observers: list[RunObserver] = [
        Console(),
        MetricsLog(request.directory),
    ]
    options = dict(request.settings["logger"])
    name = options.pop("name")
    if name not in LOGGERS:
        raise UserError(unknown("logger", name, LOGGERS))
    if name == "wandb":
        from rcc.reporting.wandb_logger import WandbObserver

        observers.append(WandbObserver(request.directory, config=request.settings, **options))
    return Observers(observers)
