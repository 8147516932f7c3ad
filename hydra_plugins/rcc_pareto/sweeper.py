"""Adapt the Optuna sweeper: its study lies in the folder of the sweep, and it is quiet."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import DictConfig


class ParetoSweeper(OptunaSweeper):
    """SQLite creates a file but not its folder, and Hydra creates the folder only with the first job."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        self._silence_logging()

    @staticmethod
    def _silence_logging() -> None:
        """The command line reports every job and the result; what these two would say repeats it."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)
