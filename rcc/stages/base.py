"""Define a stage: a compression method with a strength, applied to a model's units in a context.

A stage never loads data, logs or writes files; all it needs comes in the `StageContext`, all it did goes
out in the `StageReport`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from rcc.errors import RccError, UserError, WorkError
from rcc.layers.copying import deep_copy
from rcc.layers.encoding import encoded_bytes
from rcc.layers.form import Form
from rcc.layers.model import Batch, Model
from rcc.layers.obstacles import lone_matrices
from rcc.layers.redirect import standing_in
from rcc.layers.selection import Selection, Skipped
from rcc.layers.units import Unit
from rcc.learning.augmentation import UNCHANGED as UNCHANGED
from rcc.ops.nonzeros import count_nonzeros

DID_NOT_PAY = "did_not_pay"
"""The fact of a report under which a stage counts the units it left alone because they would not get smaller."""

CHOSEN = "auto"
"""The fact of a report under which a stage tells what its options at 'auto' came to, by name."""
CODED = "coded_bytes"
"""The fact of a report on the bytes that all whole numbers take, of a stage that was given a number of bytes."""
WITHOUT_DATA = "without_calibration_data"
"""The fact of a report that these options would have come to something else with calibration data."""


class Epochs(Protocol):
    """Batches of training data, epoch after epoch."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        ...

    def __call__(self, epoch: int) -> Iterable[Batch]:
        """Those of that epoch, from 1 on, in their order: the same ones for the same number."""
        ...


TrainingData = Callable[[int | None, str, int], Epochs]
"""(batch size, augmentation, seed) to batches; the batch size is a loader's own for None."""


@dataclass(frozen=True)
class StageContext:
    """What a stage may use. Tensors are read lazily, so that nothing is held that no stage asks for."""

    seed: int = 0
    calibration: Sequence[Batch] | None = None
    targets: Sequence[Mapping[str, Tensor]] | None = None
    reference: Callable[[str], Tensor] | None = None
    dense: Callable[[], AbstractContextManager[Model]] | None = None
    storage: torch.dtype = torch.float32
    training: TrainingData | None = None
    score: Callable[[], float] | None = None
    scratch: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    fits: Callable[[], bool] | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    """`calibration`: batches; `targets`: the dense model's outputs on each of them; `reference(unit name)`: the
    dense weight W0 (out, in); `dense()`: the dense model, to be run beside the compressed one; `storage`: what values
    are stored in by the artifact; `training`: data to learn from; `score()`: how good the model is on the selection
    split, better when higher; `scratch`: a folder of this attempt's own, there again when the attempt is resumed;
    `progress(done, total, what)`."""

    @property
    def itemsize(self) -> int:
        """Bytes a value takes in the artifact."""
        return self.storage.itemsize

    def dense_beside(self, model: Model) -> AbstractContextManager[Model]:
        """The dense model while the context lasts; where none is known, a copy of `model` as it is now."""
        if self.dense is not None:
            return self.dense()
        twin = copy.copy(model)
        twin.module = deep_copy(model.module)  # type: ignore[misc]
        return standing_in(twin, model.module)

    def generator(self) -> torch.Generator:
        """A generator seeded for this step alone, so that a resumed step draws the same numbers."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class UnitPlan:
    """What is expected of one unit: its stored matrices as (numel, nonzeros), after the stages so far.

    `steps` counts the quantisation steps of those matrices whose values are whole numbers of a byte each.
    """

    name: str
    role: str
    tower: str
    kind: str
    shape: tuple[int, int]
    factorable: bool
    matrices: Mapping[str, tuple[int, int]]
    note: str = ""
    steps: Mapping[str, int] = field(default_factory=dict)

    def nbytes(self, itemsize: int) -> int:
        """Bytes of the unit's matrices and their steps as the artifact would store them."""
        return sum(
            encoded_bytes(numel, nonzeros, 1 if name in self.steps else itemsize) + self.steps.get(name, 0) * itemsize
            for name, (numel, nonzeros) in self.matrices.items()
        )

    @classmethod
    def of(cls, unit: Unit) -> UnitPlan:
        """The plan of a unit as it stands; on the meta device every value counts as non-zero."""
        form = unit.read()
        matrices = {
            name: (matrix.numel(), matrix.numel() if matrix.is_meta else count_nonzeros(matrix))
            for name, matrix in form.matrices()
        }
        steps = {name: len(step) for name, step in form.steps()}
        return cls(unit.name, unit.role, unit.tower, unit.kind, unit.shape, unit.factorable, matrices, steps=steps)


@dataclass
class StageReport:
    """What a stage did: the units it touched with their facts, those it skipped, and facts of the whole.

    `unchanged` is why the model's values are all as they were, where the cascade found that; empty otherwise."""

    touched: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    unchanged: str = ""

    def skip(self, unit: Unit, reason: str) -> None:
        """Note that `unit` was left as it is."""
        self.skipped.append(Skipped(unit.name, reason, unit.matrix_values))

    def account(self, model: Model) -> dict[str, int]:
        """All values of the dense model's matrices, by what became of them in this stage: 'touched' and 'left'.

        A matrix is a parameter of more than one dimension. The two sum up to all of them.
        """
        touched = sum(unit.matrix_values for unit in model.units() if unit.name in self.touched)
        left = {skipped.name: skipped.values for skipped in self.skipped if skipped.name not in self.touched}
        return {"touched": touched, "left": sum(left.values())}


class Stage(ABC):
    """One compression method. Subclasses are plain objects: options in, `apply` does the work.

    `method` is the name of the stage's YAML; `label` tells repeats apart ('dare', 'dare_2');
    `strength_option` is the option that holds the strength, where there is one. `last` says that what it makes of
    the weights does not outlive another stage: it ends the cascade, and runs in the last round only. `keeps_form`: it
    changes values and leaves zeros zeros, whole numbers whole and ranks as they are, so that it may follow any stage,
    and gives back what the one before it lost; that one is judged after it. `needs_training`: it learns from data of
    which there are many.
    `more_roles` are touched by default besides the model's own. `projects` says that it chooses the subspace of its
    inputs that a layer reads, so that two such stages may do the same work.
    """

    method: ClassVar[str]
    strength_option: ClassVar[str] = ""
    last: ClassVar[bool] = False
    projects: ClassVar[bool] = False
    keeps_form: ClassVar[bool] = False
    needs_training: ClassVar[bool] = False
    more_roles: ClassVar[Sequence[str]] = ()
    needs_calibration: bool = False
    needs_targets: bool = False

    label: str = ""
    selection: Selection = Selection()

    @property
    def once(self) -> bool:
        """Whether it runs in the last round only."""
        return self.last

    @property
    def fills(self) -> bool:
        """Whether it can come out at any number of bytes, see `within`."""
        return False

    @property
    def unfillable(self) -> str:
        """What of its options has no effect where it comes out at a number of bytes; empty where all is well."""
        return ""

    def within(self, nbytes: int) -> Self:
        """The same stage, to come out at `nbytes` of whole numbers, as the artifact codes them.

        Raises:
            UserError: it cannot.
        """
        raise UserError(f"{self.who} cannot come out at a number of bytes.")

    def softer(self, by: Callable[[float], float | None]) -> Self | None:
        """The stage to try after it lost too much; None where it cannot be softened further.

        Args:
            by: gives the next strength for one, or None.
        """
        strength = None if self.strength is None else by(self.strength)
        return None if strength is None else self.at(strength)

    @property
    def uses_calibration(self) -> bool:
        """Whether calibration data make a difference: they are needed, or taken where they are there."""
        return self.needs_calibration or self.needs_targets

    @property
    def takes_gradients(self) -> bool:
        """Whether it runs backward passes where there is calibration data."""
        return False

    @property
    @abstractmethod
    def strength(self) -> float | None:
        """How hard the stage compresses, in (0, 1); None when it has no such knob and cannot be softened."""

    @abstractmethod
    def at(self, strength: float) -> Self:
        """The same stage at another strength: what the schedule and the gate's back-off ask for."""

    @abstractmethod
    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        """What the stage is expected to make of `units`, for a dry run. Touches no weight."""

    @abstractmethod
    def apply(self, model: Model, context: StageContext) -> StageReport:
        """Compress the model in place through its units.

        Raises:
            UserError: something the stage needs is missing (calibration data, a base checkpoint).
            WorkError: a unit could not be compressed; the message names it and its shape.
        """

    def foresee(self, unit: Unit, form: Form, storage: torch.dtype) -> Form:
        """What the stage would make of `form` as far as bytes go, without data and without touching the unit."""
        return form

    def foresee_vector(self, name: str, values: Tensor, storage: torch.dtype) -> Tensor:
        """What the stage would make of the tensor of that name, one of no matrix, as far as bytes go."""
        return values

    def choose(self, model: Model) -> tuple[list[Unit], list[Skipped]]:
        """The units this stage's selection names, and all else that holds a matrix, with the reason it is left out."""
        units = model.units()
        try:
            chosen, skipped = self.selection.split(units, (*model.default_roles, *self.more_roles))
        except UserError as error:
            raise UserError(*(f"{self.who}: {text}" for text in error.problems)) from None
        alone = lone_matrices(model.module, [module for unit in units for module in unit.modules()])
        return chosen, skipped + [Skipped(one.name, one.reason, one.values) for one in alone]

    def told(self) -> dict[str, Any]:
        """What decides the stage's result, by name: its plain attributes and those of its selection."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, str | int | float | None)}
        return {**plain, **asdict(self.selection), "strength": self.strength}

    @property
    def who(self) -> str:
        """How messages call this stage: "stage 'dare_2'"."""
        return f"stage '{self.label or self.method}'"

    def labelled(self, label: str) -> Self:
        """Set the label under which reports name this stage; returns the stage itself."""
        self.label = label
        return self


@contextmanager
def naming(stage: Stage, unit: Unit) -> Iterator[None]:
    """Re-raise whatever goes wrong inside with the stage, the layer and its shape in the message."""
    try:
        yield
    except RccError:
        raise
    except Exception as error:
        where = f"{stage.who} at layer {unit.name} {unit.shape}"
        raise WorkError(f"{where}: {type(error).__name__}: {error}") from error


def bytes_of(unit: Unit, itemsize: int) -> int:
    """Bytes of the unit's stored matrices as the artifact would write them."""
    return UnitPlan.of(unit).nbytes(itemsize)


def planned(unit: UnitPlan, note: str, **matrices: tuple[int, int]) -> UnitPlan:
    """`unit` with new matrices (or, given none, the ones it has) and a note on what the stage would do."""
    return replace(unit, matrices=matrices, note=note, steps={}) if matrices else replace(unit, note=note)
