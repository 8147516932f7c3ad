"""A sweep's study, opened as any other program of Optuna would."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def study_in(folder: Path | str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(f"{folder}/study.journal"))
    return optuna.load_study(study_name="rcc", storage=storage)
