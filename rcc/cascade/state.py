"""What resume needs: one checkpoint directory a step, each an artifact in native dtypes with a `state.json`.

A step is written beside its name, fsynced and renamed: a run killed at any instant has complete steps only.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor

from rcc.artifact.manifest import Manifest, read_manifest
from rcc.artifact.on_demand import on_demand
from rcc.artifact.restore import restore
from rcc.artifact.verify import stored_weights
from rcc.artifact.write import fill_artifact
from rcc.atomic import clean_leftovers, new_directory, reading, remove_directory
from rcc.cascade.randomness import random_state, restore_random_state
from rcc.errors import UserError
from rcc.layers.form import MATRICES, Form
from rcc.memory import give_back_free_memory
from rcc.models.adapter import Adapter

STATE = "state.json"
_STEP = re.compile(r"step-(\d{3,})-(.+)")
_KEYS = {"index", "name", "score", "record", "random"}


class StateStore:
    """The checkpoints of one run: step 0 ('initial'), the best one and the last few are kept.

    Args:
        directory: where steps lie as `step-000-initial`, `step-001-dare`, …; made when the first is saved.
        keep_last: how many of the newest steps are kept, at least 1.
    """

    def __init__(self, directory: Path | str, keep_last: int = 2) -> None:
        if keep_last < 1:
            raise UserError(f"state.keep_last is {keep_last}; it must be at least 1, or nothing could be resumed.")
        self.directory = Path(directory)
        self.keep_last = keep_last
        self._initial: Manifest | None = None
        self._verified = False

    def clean(self) -> None:
        """Remove what a kill left behind. Only the process that writes the run may call it."""
        clean_leftovers(self.directory)
        self._prune()

    def save(self, index: int, name: str, adapter: Adapter, record: dict[str, Any], score: float = -math.inf) -> Path:
        """Write step `index`, atomically, then remove the steps that need not be kept. Returns its directory.

        Args:
            index: 0 for the dense model, then one more a step.
            name: what the step is called, for people.
            record: plain data, given back by `load`.
            score: the highest finite one, of all steps kept, is the best; -inf is never the best.

        Raises:
            UserError: the step exists, or the place cannot be written to.
            WorkError: a weight is not finite, or the disk is full.
        """
        self.clean()
        if index in self.indices():
            raise UserError(f"{self._path(index)} exists: step {index} was saved before and is not overwritten.")
        target = self.directory / f"step-{index:03d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or 'step'}"
        state = {"index": index, "name": name, "score": score, "record": record, "random": random_state()}
        with new_directory(target) as partial:
            (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
            fill_artifact(adapter, partial, entropy="none")
        self._prune()
        return target

    def indices(self) -> list[int]:
        """The steps that are there, in order. Leftovers of killed writes are none."""
        return sorted(self._steps())

    def latest(self) -> int | None:
        """The newest step, or None when there is none."""
        return max(self._steps(), default=None)

    def load(self, index: int, adapter: Adapter) -> dict[str, Any]:
        """Make `adapter` the model of step `index`, put the random generators back, and return the record.

        Raises:
            UserError: no such step, or it is damaged; nothing was changed, and the message says how to go on.
        """
        path = self._path(index)
        try:
            state = self._state(path)
            restore(adapter, path)
            restore_random_state(state["random"])
            give_back_free_memory()  # that of the weights that were there
        except UserError as error:
            raise UserError(*error.problems, self._advice(index)) from error
        record: dict[str, Any] = state["record"]
        return record

    def reference(self, name: str) -> Tensor:
        """The dense weight (out, in) of a unit, read from step 0 alone and checked by its SHA-256.

        Raises:
            UserError: step 0 is missing or damaged, or has no such unit.
        """
        path = self._path(0)
        if self._initial is None:
            self._initial = read_manifest(path)
        manifest = self._initial
        held = manifest.modules().get(name, {})
        keys = {part: held[part] for part in ("weight", *MATRICES, "scale") if part in held}
        if not keys:
            raise UserError(f"{path} holds no unit '{name}': tensor '{name}.weight' is not in its manifest.")
        with stored_weights(path, manifest) as weights:
            weights.verify(keys.values())
            tensors = {part: weights.read(key) for part, key in keys.items()}
        if "weight" in tensors:
            weight = tensors["weight"]
            return weight.flatten(1) if weight.dim() > 1 else weight.reshape(1, -1)
        return Form(**tensors).dense()

    def dense(self, like: Adapter) -> AbstractContextManager[Adapter]:
        """The model of step 0, of the architecture of `like`, whose weights are read while it runs.

        Its bytes are compared with their SHA-256 the first time.
        """
        verify, self._verified = not self._verified, True
        return on_demand(like, self._path(0), verify)

    def discard_after(self, index: int) -> None:
        """Remove the steps after `index`, newest first: they belong to a future that was rolled back."""
        for later in reversed([step for step in self.indices() if step > index]):
            remove_directory(self._path(later))

    def _prune(self) -> None:
        """Remove all but step 0, the best step and the last `keep_last`."""
        steps = self._steps()
        scores = {index: self._score(path) for index, path in steps.items()}
        ranked = sorted((score, index) for index, score in scores.items() if math.isfinite(score))
        keep = {0, *sorted(steps)[-self.keep_last :], *(index for _, index in ranked[-1:])}
        for index in sorted(steps.keys() - keep):
            remove_directory(steps[index])

    def _score(self, path: Path) -> float:
        try:
            return float(self._state(path)["score"])
        except UserError:  # a damaged step is not the best one; it is refused by name when it is loaded
            return -math.inf

    def _steps(self) -> dict[int, Path]:
        found: dict[int, Path] = {}
        with reading(self.directory):
            paths = sorted(self.directory.iterdir()) if self.directory.exists() else []
        for path in paths:
            match = _STEP.fullmatch(path.name)
            if match is None:
                continue
            index = int(match[1])
            if index in found:
                raise UserError(
                    f"{self.directory} has two steps {index}: {found[index].name} and {path.name}. Two runs "
                    "wrote here; remove the one that does not belong to this run."
                )
            found[index] = path
        return found

    def _path(self, index: int) -> Path:
        steps = self._steps()
        if index not in steps:
            there = ", ".join(path.name for _, path in sorted(steps.items())) or "none"
            raise UserError(f"{self.directory} has no step {index} any more. Steps there: {there}.")
        return steps[index]

    def _state(self, path: Path) -> dict[str, Any]:
        try:
            state = json.loads((path / STATE).read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path / STATE} cannot be read: {error}.") from error
        if not isinstance(state, dict) or set(state) != _KEYS:
            raise UserError(f"{path / STATE} is damaged: it does not hold {', '.join(sorted(_KEYS))}.")
        return state

    def _advice(self, index: int) -> str:
        earlier = [step for step in self.indices() if step < index]
        if not earlier:
            return "No earlier step is left to go on from: start a fresh run."
        return f"To go on from step {earlier[-1]} instead, remove {self._path(index)} and resume again."
