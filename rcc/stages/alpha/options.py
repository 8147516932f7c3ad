"""Define the options of repair, learned scales and task vectors, and check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from rcc.errors import Problems, UserError, is_number, is_whole
from rcc.ops.null_space import ENERGY
from rcc.ops.quadratic import DAMPING
from rcc.ops.scale import IMPORTANCE
from rcc.stages.alpha.repair import WAYS
from rcc.stages.options import AUTO, StageOptions

LOSSES = ("outputs", "model")
EPOCHS = 6
"""Passes over the calibration data where scales are learned and no number is given."""
_OF_LEARNING = ("learning_rate", "l2", "clip_norm", "clamp")
_OF_TASKS = ("task_strength", "weight_by_importance")


@dataclass(frozen=True)
class AlphaOptions(StageOptions):
    """How layers are repaired, how their scales are learned, and which tasks are added.

    Attributes:
        learning_rate: Adam's step on the raw parameters; a scale is 2 sigmoid(raw), and raw starts at 0.
        importance_metric: 'gradient', 'magnitude', 'taylor' or 'fisher': the importance of a channel.
        repair: towards the dense model's outputs, layer after layer: 'none', 'scales' (one factor a row and the
            bias), 'least_squares' (the surviving values and the bias), 'null_space' (the surviving values, where
            inputs that are reproduced well do not see it). 'auto': 'least_squares' where there are calibration data
            and the dense model, or where it is all there is to do; else 'none'.
        repair_rounds: how often S, V and U take turns in 'least_squares'.
        damping: λ over the mean of diag H, above 0: how strongly values are held near those there are.
        null_space_energy: share of the preserved inputs that the null space may hold, in [0, 1).
        num_epochs: passes over the calibration batches, to learn scales on top of the repair; 0 learns none. 'auto': 6
            where an option of learning is set, or there is neither repair nor task; else 0.
        loss: 'outputs' (1 - cosine to the dense model's outputs) or 'model' (the model's own loss).
        l2: weight of the pull towards the identity.
        clip_norm: largest norm of all gradients together.
        clamp: largest |raw|.
        task_checkpoints: checkpoints of fine-tuned models of the same architecture, by task.
        task_weights: their shares, which must sum to 1; equal ones by default.
        task_strength: how much of the interpolated task vector is added.
        weight_by_importance: multiply each channel of a task vector by its importance, in [0, 1].
    """

    method: ClassVar[str] = "alpha"

    learning_rate: float = 0.03
    importance_metric: str = "magnitude"
    _: KW_ONLY
    repair: str = AUTO
    repair_rounds: int = 1
    damping: float = DAMPING
    null_space_energy: float = ENERGY
    num_epochs: int | str = AUTO
    loss: str = "outputs"
    l2: float = 0.001
    clip_norm: float = 1.0
    clamp: float = 3.0
    task_checkpoints: Mapping[str, str | Path] | None = None
    task_weights: Mapping[str, float] | None = None
    task_strength: float = 1.0
    weight_by_importance: bool = False

    def check(self, problems: Problems) -> None:
        problems.positive("learning_rate", self.learning_rate)
        problems.choice("importance_metric", self.importance_metric, IMPORTANCE)
        problems.choice("repair", self.repair, (AUTO, *WAYS))
        problems.whole("repair_rounds", self.repair_rounds, 1)
        problems.positive("damping", self.damping)
        problems.within("null_space_energy", self.null_space_energy, "[0, 1)")
        problems.check(
            self.num_epochs == AUTO or (is_whole(self.num_epochs) and self.num_epochs >= 0),
            f"num_epochs is {self.num_epochs!r}; it must be a whole number from 0 up, or {AUTO}.",
        )
        problems.choice("loss", self.loss, LOSSES)
        problems.at_least("l2", self.l2, 0)
        problems.positive("clip_norm", self.clip_norm)
        problems.positive("clamp", self.clamp)
        problems.finite("task_strength", self.task_strength)
        problems.flag("weight_by_importance", self.weight_by_importance)
        self._check_tasks(problems)
        if not problems.found:  # what has an effect can be told of sound values alone
            self._check_unused(problems)

    def _check_tasks(self, problems: Problems) -> None:
        tasks, weights = self.task_checkpoints, self.task_weights
        paths = isinstance(tasks, Mapping) and all(isinstance(path, str | Path) for path in tasks.values())
        if not problems.check(
            tasks is None or paths,
            f"task_checkpoints is {tasks!r}; it must be paths by the names of tasks, as {{'digits': 'path'}}, or null.",
        ):
            return
        for task, path in (tasks or {}).items():
            problems.check(Path(path).exists(), f"task_checkpoints: '{task}' is at {path}, which is not there.")
        numbers = isinstance(weights, Mapping) and all(map(is_number, weights.values()))
        if not problems.check(
            weights is None or numbers,
            f"task_weights is {weights!r}; it must be numbers by the names of tasks, as {{'digits': 1.0}}, or null.",
        ):
            return
        if tasks:
            with problems.collecting():
                check_interpolation(self.interpolation_weights, tasks)

    def _check_unused(self, problems: Problems) -> None:
        way = self._way(calibrated=True)
        if self.epochs == 0:
            self.unused(problems, _OF_LEARNING, "with num_epochs=0", "take num_epochs=6")
            if self.importance_metric == "magnitude":
                self.unused(problems, ("loss",), "with num_epochs=0", "take num_epochs=6")
        if not self.task_checkpoints:
            self.unused(problems, ("task_weights",), "without task_checkpoints", "give these")
        if way != "least_squares":
            self.unused(problems, ("repair_rounds",), f"with repair={way}", "take repair=least_squares")
        if way != "null_space":
            self.unused(problems, ("null_space_energy",), f"with repair={way}", "take repair=null_space")
        if way == "none":
            self.unused(problems, ("damping",), "with repair=none", "take another repair")

    def check_cascade(self, problems: Problems) -> None:
        if not self.task_checkpoints:
            self.unused(problems, _OF_TASKS, "without task_checkpoints", "give these")

    @property
    def interpolation_weights(self) -> dict[str, float]:
        """The share of each task: those given, or equal ones."""
        if self.task_weights is not None:
            return dict(self.task_weights)
        tasks = self.task_checkpoints or {}
        return {task: 1 / len(tasks) for task in tasks}

    @property
    def epochs(self) -> int:
        """How often the calibration data is gone through to learn scales."""
        if is_whole(self.num_epochs):
            return self.num_epochs
        asked = self.changed(_OF_LEARNING) or (self.importance_metric == "magnitude" and self.changed(("loss",)))
        return EPOCHS if asked or (self.repair == "none" and not self.task_checkpoints) else 0

    @property
    def looks_at_losses(self) -> bool:
        """Whether a loss on the calibration data is computed: to learn by, or for its gradients."""
        return self.epochs > 0 or self.importance_metric != "magnitude"

    def resolved(self, calibrated: bool) -> Self:
        """`calibrated`: whether there are calibration data and the dense model."""
        if AUTO not in (self.repair, self.num_epochs):
            return self
        # The epochs are those asked for: none are added because the repair turned out to be none.
        return replace(self, repair=self._way(calibrated), num_epochs=self.epochs)

    def _way(self, calibrated: bool) -> str:
        """The repair, with 'auto' decided."""
        if self.repair != AUTO:
            return self.repair
        all_there_is = not self.looks_at_losses and not self.task_checkpoints
        return "least_squares" if calibrated or all_there_is else "none"

    @property
    def needs_calibration(self) -> bool:
        try:
            taken = self.resolved(calibrated=False)
        except UserError:  # what 'auto' is without data does not go with the rest
            return True
        return taken.looks_at_losses or taken.repair != "none"

    @property
    def takes_gradients(self) -> bool:
        return self.looks_at_losses

    @property
    def needs_targets(self) -> bool:
        return self.looks_at_losses and self.loss == "outputs"


def check_interpolation(weights: Mapping[str, float], tasks: Mapping[str, object]) -> None:
    """Refuse weights that do not sum to 1 or do not name exactly the tasks there are.

    Raises:
        UserError: what was given, and what must hold.
    """
    if set(weights) != set(tasks):
        raise UserError(f"task weights name {sorted(weights)}; the tasks are {sorted(tasks)}.")
    total = sum(weights.values())
    if abs(total - 1) > 1e-6:
        raise UserError(f"task weights sum to {total:g}; they must sum to 1.")
