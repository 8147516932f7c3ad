"""Adapt the Optuna sweeper: its study lies in the folder of the sweep, and it is quiet."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import DictConfig

from rcc.atomic import foreign_errors


class ParetoSweeper(OptunaSweeper):
    """SQLite creates a file but not its folder, and Hydra creates the folder only with the first job."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.folder = Path(config.hydra.sweep.dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._silence_logging()

    def sweep(self, arguments: list[str]) -> None:
        """Search; a disk that the study cannot be written to is an `OSError`, as that of any other file."""
        with foreign_errors(self.folder):
            super().sweep(arguments)

    @staticmethod
    def _silence_logging() -> None:
        """The command line reports every job and the result; what these two would say repeats it."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)
