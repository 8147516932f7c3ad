"""Weights of another checkpoint of the same architecture, read one tensor at a time by the unit's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rcc.errors import Problems, UserError
from rcc.layers.units import Unit
from rcc.layers.weight_layout import matrix_shape_of


class Checkpoint:
    """The safetensors of a file, or of all `*.safetensors` of a directory; nothing is held in memory.

    Raises:
        UserError: nothing is there, there are no safetensors in it, or one cannot be read.
    """

    def __init__(self, path: Path | str, asked_by: str) -> None:
        self.path = Path(path)
        self.asked_by = asked_by
        self._files: dict[str, Path] = {}
        for file in self._found():
            try:
                with safe_open(file, framework="pt") as tensors:
                    self._files.update(dict.fromkeys(tensors.keys(), file))
            except (OSError, SafetensorError) as error:
                raise UserError(f"{asked_by}: {file} is no readable safetensors file: {error}") from error

    def _found(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        files = sorted(self.path.glob("*.safetensors")) if self.path.is_dir() else []
        if not files:
            problem = "holds no *.safetensors file" if self.path.is_dir() else "does not exist"
            raise UserError(
                f"{self.asked_by}: {self.path} {problem}. Give a checkpoint directory or a .safetensors file."
            )
        return files

    def require(self, units: Sequence[Unit]) -> None:
        """Check the weights of all `units` at once.

        Raises:
            UserError: every tensor that is missing or has another shape, by name.
        """
        problems = Problems(f"{self.asked_by} ({self.path})")
        for unit in units:
            key = self._key(unit)
            file = self._files.get(key)
            if not problems.check(file is not None, f"has no tensor '{key}'; it holds {len(self._files)} others."):
                continue
            with safe_open(file, framework="pt") as tensors:
                shape = tuple(tensors.get_slice(key).get_shape())
            rows = matrix_shape_of(unit.module, shape) if len(shape) > 1 else (1, *shape)
            problems.check(rows == unit.shape, f"'{key}' has shape {shape}; the layer's weight is {unit.shape}.")
        problems.done()

    def weight(self, unit: Unit) -> Tensor:
        """The dense weight of `unit` in this checkpoint, (out, in), in the checkpoint's dtype."""
        key = self._key(unit)
        with safe_open(self._files[key], framework="pt") as tensors:
            return unit.as_matrix(tensors.get_tensor(key))

    @staticmethod
    def _key(unit: Unit) -> str:
        return f"{unit.name}.weight"
