"""Select the units a stage touches: by role, tower and name pattern, with the reason for each one left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from rcc.errors import Problems, UserError, nearest, unknown
from rcc.layers.units import Unit


@dataclass(frozen=True)
class Skipped:
    """A unit, or another matrix of the model, that was left as it is, and why; `values` is how many it holds."""

    name: str
    reason: str
    values: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Selection:
    """Name patterns (shell globs on module names), roles and towers; None means the model's default.

    A unit named by `include` is asked for, whatever its role: this is how embeddings, norms and tied weights,
    which are left alone otherwise, are reached.

    Raises:
        UserError: one of them is no list of texts, nor null.
    """

    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    roles: Sequence[str] | None = None
    towers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("include", "exclude", "roles", "towers"):
            value = getattr(self, name)
            if isinstance(value, str):  # one pattern, not its letters
                value = (value,)
            texts = isinstance(value, Sequence) and all(isinstance(each, str) for each in value)
            if problems.check(
                value is None or texts, f"{name} is {value!r}; it must be a list of texts, as ['a', 'b'], or null."
            ):
                object.__setattr__(self, name, None if value is None else tuple(value))
        problems.done()

    def split(self, units: Sequence[Unit], default_roles: Sequence[str]) -> tuple[list[Unit], list[Skipped]]:
        """Divide `units` into those to touch and those skipped, each with its reason.

        Raises:
            UserError: a pattern, role or tower that matches nothing, or no unit left to touch.
        """
        self._check(units)
        chosen, skipped = [], []
        for unit in units:
            reason = self._reason_to_skip(unit, default_roles)
            if reason:
                skipped.append(Skipped(unit.name, reason, unit.matrix_values))
            else:
                chosen.append(unit)
        if not chosen:
            raise UserError(
                f"nothing to compress: all {len(units)} units are left out"
                + (f" (the first, {skipped[0].name}: {skipped[0].reason})" if skipped else "")
                + ". Widen include, roles or towers; `rcc-run dry_run=true` lists units, roles and towers."
            )
        return chosen, skipped

    def _check(self, units: Sequence[Unit]) -> None:
        problems = Problems("units")
        roles, towers = {unit.role for unit in units}, {unit.tower for unit in units}
        names = [unit.name for unit in units]
        for role in self.roles or ():
            problems.check(role in roles, unknown("role", role, roles))
        for tower in self.towers or ():
            problems.check(tower in towers, unknown("tower", tower, towers))
        for pattern in (*(self.include or ()), *(self.exclude or ())):
            problems.check(
                any(fnmatchcase(name, pattern) for name in names),
                f"the pattern '{pattern}' matches none of the {len(names)} units.{nearest(pattern, names)}"
                " Patterns are shell globs on module names, such as '*.mlp.*'.",
            )
        problems.done()

    def _reason_to_skip(self, unit: Unit, default_roles: Sequence[str]) -> str:
        named = any(fnmatchcase(unit.name, pattern) for pattern in self.include or ())
        if unit.obstacle:
            return unit.obstacle
        if any(fnmatchcase(unit.name, pattern) for pattern in self.exclude or ()):
            return "excluded by pattern"
        if self.include is not None and not named:
            return "not in include"
        if self.towers is not None and unit.tower not in self.towers:
            return f"tower '{unit.tower}' is not asked for"
        if self.roles is not None and unit.role not in self.roles:
            return f"role '{unit.role}' is not asked for"
        if self.roles is None and not named and unit.role not in default_roles:
            return f"role '{unit.role}' is left alone unless asked"
        if unit.tied and not named:
            return f"tied with {', '.join(unit.tied)}; left alone unless named in include"
        return ""
