"""Paired features: what layers put out on positive (hallucinated) and on negative (truthful) inputs.

A safetensors file with '<unit>.positive' and '<unit>.negative', each (n, out): row i of both belongs to one
pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rcc.errors import Problems, UserError, nearest
from rcc.layers.units import Unit
from rcc.ops.factorise import thin_svd

SIDES = ("positive", "negative")


class PairedFeatures:
    """The pairs of one file, read unit by unit; checked as a whole against the model's units.

    Args:
        path: the file.
        units: the model's units, of which the file may name any.
        rank: directions asked for of each.

    Raises:
        UserError: the file cannot be read, or everything in it that is missing, misshaped or unknown, by
            name.
    """

    def __init__(self, path: Path | str, units: Sequence[Unit], rank: int) -> None:
        self.path, self.rank = Path(path), rank
        try:
            with safe_open(self.path, framework="pt") as file:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"paired features: {self.path} is no readable safetensors file: {error}") from error
        self.names = self._check(shapes, {unit.name: unit for unit in units})

    def _check(self, shapes: dict[str, tuple[int, ...]], units: dict[str, Unit]) -> set[str]:
        problems = Problems(f"paired features ({self.path})")
        problems.check(bool(shapes), "the file is empty; it needs '<unit>.positive' and '<unit>.negative'.")
        names = set()
        for key in shapes:
            name, _, side = key.rpartition(".")
            if problems.check(side in SIDES, f"'{key}' ends in neither '.positive' nor '.negative'."):
                names.add(name)
        for name in sorted(names):
            known = problems.check(name in units, f"the model has no unit '{name}'.{nearest(name, units)}")
            keys = [f"{name}.{side}" for side in SIDES]
            for key in keys:
                problems.check(key in shapes, f"tensor '{key}' is missing.")
            if not known or any(key not in shapes for key in keys):
                continue
            out = units[name].shape[0]
            for key in keys:
                fits = len(shapes[key]) == 2 and shapes[key][1] == out
                problems.check(fits, f"'{key}' has shape {shapes[key]}; the layer puts out (n, {out}).")
            counts = [shapes[key][0] if shapes[key] else 0 for key in keys]
            problems.check(
                counts[0] == counts[1], f"'{name}' pairs {counts[0]} positive and {counts[1]} negative rows."
            )
            problems.check(
                self.rank <= min(*counts, out),
                f"'{name}': {self.rank} directions cannot come from {min(counts)} pairs of {out} features.",
            )
        problems.done()
        return names

    def directions(self, unit: Unit) -> Tensor:
        """The `rank` leading right singular vectors of positive - negative: rows (rank, out), float64.

        Raises:
            UserError: the features hold a NaN or an infinity, or differ in fewer than `rank` directions.
        """
        with safe_open(self.path, framework="pt") as file:
            positive, negative = (file.get_tensor(f"{unit.name}.{side}").double() for side in SIDES)
        try:
            svd = thin_svd(positive - negative, "float64")
        except ValueError as error:
            raise UserError(f"paired features ({self.path}): '{unit.name}': {error}.") from error
        if not float(svd.values[self.rank - 1]) > 1e-9 * float(svd.values[0]):
            raise UserError(
                f"paired features ({self.path}): positive and negative of '{unit.name}' differ in fewer than "
                f"{self.rank} directions."
            )
        return svd.right[: self.rank]
