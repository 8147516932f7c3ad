"""Keep the checkpoints of a run: one directory a step, each an artifact in native dtypes with a `state.json`.

A step is written beside its name, fsynced and renamed: a run killed at any instant has complete steps only. It holds
all that a resumed run needs to go on as the killed one would have: the model, its record, and the state of the random
generators.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rcc.artifact.manifest import Manifest, read_manifest
from rcc.artifact.on_demand import on_demand
from rcc.artifact.restore import restore
from rcc.artifact.verify import stored_weights
from rcc.artifact.write import fill_artifact
from rcc.atomic import clean_leftovers, new_directory, reading, remove_directory, write_text
from rcc.calibration.targets import dense_outputs, read_targets, write_targets
from rcc.errors import UserError, WorkError, well_formed
from rcc.layers.form import MATRICES, Form
from rcc.layers.model import Batch
from rcc.layers.weight_layout import matrix_of
from rcc.limits import read_bytes, read_json
from rcc.memory import give_back_free_memory
from rcc.models.adapter import Adapter
from rcc.option_types import fits, wanted
from rcc.randomness import random_state, restore_random_state

STATE = "state.json"
TARGETS = "targets.safetensors"
_STEP = re.compile(r"step-(\d{3,})-(.+)")
_NAMED = re.compile(r"named-(\d{3,})-(.+)")
_KEYS = {"index": int, "name": str, "score": float, "record": dict, "random": dict}
SCRATCH, REFUSED = "within-", "refused.json"
KEEP_NAMED = 5
"""Checkpoints kept of those a user saves by name; the specification's number."""


class StateStore:
    """The checkpoints of one run: step 0 ('initial'), the best one and the last few are kept.

    Args:
        directory: where steps lie as `step-000-initial`, `step-001-dare`, …; made when the first is saved. None is a
            temporary one, removed with the store.
        keep_last: how many of the newest steps are kept, at least 1.
    """

    def __init__(self, directory: Path | str | None = None, keep_last: int = 2) -> None:
        if keep_last < 1:
            raise UserError(f"state.keep_last is {keep_last}; it must be at least 1, or nothing could be resumed.")
        self._directory = None if directory is None else Path(directory)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.keep_last = keep_last
        self._initial: Manifest | None = None
        self._verified = False

    @property
    def directory(self) -> Path:
        """The directory of the checkpoints."""
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="rcc-state-")
            self._directory = Path(self._temporary.name)
        return self._directory

    def open(self, resume: bool) -> None:
        """Make ready for a run that begins, or with `resume` for one that goes on.

        Raises:
            UserError: there are steps, and they are not to be resumed.
        """
        if self.indices() and not resume:
            raise UserError(
                f"{self.directory} already holds the state of a run: go on from it with resume=True "
                "(`rcc-run resume=<run directory>`), or choose another directory."
            )
        self.clean()

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
        if index and 0 not in self.indices():  # written now, the step would stand in a new folder that nothing resumes
            raise WorkError(
                f"{self.directory} lost its first step, the dense model, while the run was live: the folder was "
                "removed, renamed or emptied. Start a fresh run."
            )
        path = self._write("step", index, name, adapter, record, score)
        self._remove_scratch()
        (self.directory / REFUSED).unlink(missing_ok=True)
        self._prune()
        return path

    def save_named(self, name: str, adapter: Adapter, record: dict[str, Any]) -> Path:
        """Write a checkpoint beside the steps, under a name of the user's; returns its directory.

        A run neither resumes from it nor removes it; the last five are kept. Of one name the newest counts.

        Raises:
            UserError, WorkError: as `save`.
        """
        clean_leftovers(self.directory)
        index = max(self._found(_NAMED), default=0) + 1
        path = self._write("named", index, name, adapter, record, -math.inf)
        for _, old in sorted(self._found(_NAMED).items())[:-KEEP_NAMED]:
            remove_directory(old)
        return path

    def named(self, name: str) -> Path | None:
        """The newest checkpoint that was saved under this name of the user's; None where there is none."""
        found = (path for _, path in sorted(self._found(_NAMED).items(), reverse=True))
        return next((path for path in found if self._state(path)["name"] == name), None)

    def load_named(self, path: Path, adapter: Adapter) -> dict[str, Any]:
        """As `load`, of a checkpoint that `named` found; newer ones of the user's are removed."""
        record = self._load(path, adapter)
        found = self._found(_NAMED)
        for index in sorted(found, reverse=True):
            if found[index] == path:
                break
            remove_directory(found[index])
        return record

    def paths(self) -> dict[str, Path]:
        """Every checkpoint by its directory's name: the steps, then those the user named."""
        found = (self._steps(), self._found(_NAMED))
        return {path.name: path for paths in found for _, path in sorted(paths.items())}

    def names(self) -> dict[int, str]:
        """The name of each step by its index, in order."""
        return {index: str(self._state(path)["name"]) for index, path in sorted(self._steps().items())}

    def _write(self, kind: str, index: int, name: str, adapter: Adapter, record: dict[str, Any], score: float) -> Path:
        path = self.directory / f"{kind}-{index:03d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or 'step'}"
        state = {"index": index, "name": name, "score": score, "record": record, "random": random_state()}
        with new_directory(path) as partial:
            (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
            fill_artifact(adapter, partial, entropy="none")
        return path

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
            return self._load(path, adapter)
        except UserError as error:
            raise UserError(*error.problems, self._advice(index)) from error

    def note_refused(self, index: int, attempts: list[dict[str, Any]]) -> None:
        """Keep the attempts that were refused of the step after `index`, until the next one is saved."""
        write_text(self.directory / REFUSED, json.dumps({"index": index, "attempts": attempts}))

    def refused(self, index: int) -> list[dict[str, Any]]:
        """What `note_refused` kept for that step; empty where it kept nothing.

        Raises:
            UserError: the file is damaged.
        """
        path = self.directory / REFUSED
        if not path.exists():
            return []
        noted = read_json(path)
        with well_formed(str(path), "Remove it to do the next step afresh."):
            return [dict(attempt) for attempt in noted["attempts"]] if noted["index"] == index else []

    def record(self, index: int) -> dict[str, Any]:
        """The record of step `index`, which `load` gives back, without touching a model.

        Raises:
            UserError: no such step, or it is damaged.
        """
        record: dict[str, Any] = self._state(self._path(index))["record"]
        return record

    def _load(self, path: Path, adapter: Adapter) -> dict[str, Any]:
        state = self._state(path)
        restore(adapter, path)
        with well_formed(f"the state of the random generators in {path / STATE}", "Start a fresh run."):
            restore_random_state(state["random"])
        give_back_free_memory()  # that of the weights that were there
        record: dict[str, Any] = state["record"]
        return record

    def reference(self, name: str, module: nn.Module | None = None) -> Tensor:
        """The dense weight (out, in) of a unit, read from step 0 alone and checked by its SHA-256.

        Args:
            module: the unit's, whose weight may be laid out in another way, see `rcc.layers.weight_layout`.

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
            return matrix_of(module, weight) if weight.dim() > 1 else weight.reshape(1, -1)
        return Form(**tensors).dense()

    def dense(self, like: Adapter) -> AbstractContextManager[Adapter]:
        """The model of step 0, of the architecture of `like`, whose weights are read while it runs.

        Its bytes are compared with their SHA-256 the first time.
        """
        verify, self._verified = not self._verified, True
        return on_demand(like, self._path(0), verify)

    def dense_targets(self, model: Adapter, batches: Sequence[Batch]) -> Sequence[Mapping[str, Tensor]]:
        """The outputs of step 0 on `batches`, computed by `model` the first time and read from a file afterwards.

        `model` is that of the newest step, before and after.
        """
        path = self.directory / TARGETS
        if not path.exists():
            now = self.latest() or 0
            if now:
                self.load(0, model)
            write_targets(path, dense_outputs(model, batches))
            if now:
                self.load(now, model)
        return read_targets(path)

    def scratch(self, seed: int, before: str) -> Path | None:
        """Where the attempt of a step with that seed, on the model of that checksum, may keep how far it is; None where
        the state is temporary. Gone when the next step is saved."""
        return None if self._directory is None else self._directory / f"{SCRATCH}{seed:x}-{before[:16]}"

    def _remove_scratch(self) -> None:
        with reading(self.directory):
            found = [path for path in self.directory.glob(f"{SCRATCH}*") if path.is_dir()]
        for path in found:
            remove_directory(path)

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
        return self._found(_STEP)

    def _found(self, kind: re.Pattern[str]) -> dict[int, Path]:
        found: dict[int, Path] = {}
        with reading(self.directory):
            paths = sorted(self.directory.iterdir()) if self.directory.exists() else []
        for path in paths:
            match = kind.fullmatch(path.name)
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
            state = json.loads(read_bytes(path / STATE))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path / STATE} cannot be read: {error}.") from error
        if not isinstance(state, dict) or set(state) != set(_KEYS):
            raise UserError(f"{path / STATE} is damaged: it does not hold {', '.join(sorted(_KEYS))}.")
        for key, kind in _KEYS.items():
            if not fits(state[key], kind):
                raise UserError(f"{path / STATE} is damaged: '{key}' is not {wanted(kind)}.")
        return state

    def _advice(self, index: int) -> str:
        earlier = [step for step in self.indices() if step < index]
        if not earlier:
            return "No earlier step is left to go on from: start a fresh run."
        return f"To go on from step {earlier[-1]} instead, remove {self._path(index)} and resume again."
