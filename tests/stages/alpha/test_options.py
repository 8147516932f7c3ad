"""Whether layers are repaired and scales learned follows from what was asked and from what data there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys.layer_rows import context_for, data
from toys.models import SmallModel

from rcc.errors import UserError
from rcc.stages.alpha import AlphaEditor
from rcc.stages.base import StageContext


def test_repair_runs_where_it_can_and_data_is_asked_for_where_nothing_else_is_to_do(tmp_path: Path) -> None:
    alone = AlphaEditor()
    assert alone.needs_calibration
    assert alone.apply(SmallModel(), context_for(SmallModel())).facts["repair"] == "least_squares"
    with pytest.raises(UserError, match="no calibration data to learn from"):
        alone.apply(SmallModel(), StageContext())
    (tmp_path / "task.safetensors").touch()
    assert not AlphaEditor(task_checkpoints={"task": tmp_path / "task.safetensors"}).needs_calibration
    learning = AlphaEditor(loss="model", learning_rate=0.1)
    facts = learning.apply(SmallModel(), StageContext(calibration=data())).facts
    assert (facts["repair"], len(facts["losses"])) == ("none", 7)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, 0),
        ({"learning_rate": 0.001}, 6),
        ({"repair": "none"}, 6),
        ({"repair": "scales"}, 0),
        ({"num_epochs": 2}, 2),
    ],
)
def test_scales_are_learned_where_learning_is_asked_for(options: dict[str, Any], epochs: int) -> None:
    assert AlphaEditor(**options).options.epochs == epochs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task_checkpoints": {"a": 3}}, "task_checkpoints is {'a': 3}; it must be paths by the names of tasks"),
        ({"task_weights": {"a": "half"}}, "task_weights is {'a': 'half'}; it must be numbers by the names of tasks"),
        ({"task_weights": {"a": 1.0}}, "task_weights={'a': 1.0} has no effect without task_checkpoints"),
        ({"task_checkpoints": {"a": "nowhere"}}, "'a' is at nowhere, which is not there"),
    ],
)
def test_tasks_are_paths_and_shares_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        AlphaEditor(**options)
    assert said in str(error.value)


def test_equal_shares_are_those_of_tasks_without_weights(tmp_path: Path) -> None:
    tasks = {name: tmp_path / name for name in ("birds", "cars")}
    for path in tasks.values():
        path.touch()
    assert AlphaEditor(task_checkpoints=tasks).interpolation_weights == {"birds": 0.5, "cars": 0.5}
