"""Configure a stage by one frozen dataclass that checks itself, and build the stage from it.

An option stands in the dataclass, in the stage's YAML and in its page of docs/method, and nowhere else: the
constructor's signature is made of the fields, `at(strength)` replaces one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from rcc.errors import Problems, UserError
from rcc.layers.model import Model
from rcc.layers.selection import Selection
from rcc.stages.base import CHOSEN, WITHOUT_DATA, Stage, StageContext
from rcc.stages.by_hand import adapted

AUTO = "auto"
"""The value of an option that is decided by whether calibration data is there."""
WITH_A_MODEL = ("model", "device")
"""Parameters of a stage's constructor that are no options: for use by hand, see `ConfiguredStage`."""
NO_SELECTION = Selection()
_SELECTION = tuple(field.name for field in fields(Selection))


@dataclass(frozen=True)
class StageOptions:
    """What a stage is told: which layers, and in subclasses how.

    Fields that may be given by position come first in a subclass, the others after `KW_ONLY`.

    Raises:
        UserError: everything that is wrong with the values, at once.
    """

    method: ClassVar[str] = ""

    _: KW_ONLY
    selection: Selection = NO_SELECTION

    def __post_init__(self) -> None:
        problems = Problems(f"stage '{self.method}'")
        self.check(problems)
        problems.done()

    def check(self, problems: Problems) -> None:
        """Note every value of the wrong type or out of range, every conflict, and every option without effect."""

    def check_cascade(self, problems: Problems) -> None:
        """Note options that have an effect by hand alone, where a stage is made for a cascade."""

    def resolved(self, calibrated: bool) -> Self:
        """The options with nothing left at 'auto', for a run with calibration data or one without.

        Raises:
            UserError: what is then chosen does not go with the other options.
        """
        return self

    @property
    def needs_calibration(self) -> bool:
        """Whether there must be calibration data."""
        return False

    @property
    def takes_gradients(self) -> bool:
        """Whether backward passes are run, with nothing left at 'auto'."""
        return False

    @property
    def needs_targets(self) -> bool:
        """Whether there must be the dense model's outputs on the calibration data."""
        return False

    def changed(self, names: Sequence[str]) -> list[str]:
        """Those of the options `names` that were set to something else than their default."""
        defaults = {field.name: field.default for field in fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]

    def unused(self, problems: Problems, names: Sequence[str], because: str, instead: str) -> None:
        """Note those of the options `names` that were set, though nothing looks at them."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in self.changed(names):
            problems.check(
                False,
                f"{name}={getattr(self, name)} has no effect {because}: {instead}, or leave {name} at its default,"
                f" {defaults[name]}.",
            )


Options = TypeVar("Options", bound=StageOptions)


def is_model(value: object) -> bool:
    """Whether `value` is a module, or an adapter of one."""
    return isinstance(value, nn.Module) or callable(getattr(value, "units", None))


def signature_of(options: type[StageOptions], with_a_model: bool) -> Signature:
    """The signature of the constructor of a stage with these options.

    Where the stage takes one, first the model, then the fields that may be given by position, then the device, as the
    specification has it; all others, and those of the layers' selection, by name.
    """
    own = [field for field in fields(options) if field.name != "selection"]
    ordered, by_name = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY
    first = [Parameter(field.name, ordered, default=field.default) for field in own if not field.kw_only]
    named = [Parameter(field.name, by_name, default=field.default) for field in own if field.kw_only]
    chosen = [Parameter(name, by_name, default=None) for name in _SELECTION]
    model, device = (Parameter(name, ordered, default=None) for name in WITH_A_MODEL)
    return Signature([model, *first, device, *named, *chosen] if with_a_model else [*first, *named, *chosen])


class ConfiguredStage(Stage, Generic[Options]):
    """A stage whose options are a frozen dataclass, `options_type`.

    A subclass that defines `hold` can be given a model when it is made.

    Args:
        model: a module or an adapter, for use by hand: the stage is then ready for the methods that the specification
            has for it. It may be left out: a first argument that is no model is the first option. A stage of a cascade
            is given its model by `apply`.
        device: where the model is moved first; None leaves it where it is.
        options: those of `options_type`, and include, exclude, roles and towers, see `Selection`.

    Raises:
        UserError: every option that does not exist, is of the wrong type, out of range, in conflict with another or
            without effect, at once.
    """

    options_type: ClassVar[type[Any]] = StageOptions
    no_strength: ClassVar[str] = "none of its options is one"
    """Why `strength` may be None."""

    _signature: ClassVar[Signature] = Signature()

    options: Options

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._signature = signature_of(cls.options_type, with_a_model=cls.hold is not ConfiguredStage.hold)
        if cls.__init__ is ConfiguredStage.__init__:
            cls.__signature__ = cls._signature  # type: ignore[attr-defined]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        signature = self._signature
        if WITH_A_MODEL[0] in signature.parameters and arguments and not is_model(arguments[0]):
            arguments = (None, *arguments)
        problems = Problems(self.who)
        for name in options:
            problems.choice("option", name, signature.parameters)
        known = {name: value for name, value in options.items() if name in signature.parameters}
        given = signature.bind(*arguments, **known).arguments
        model, device = (given.pop(name, None) for name in WITH_A_MODEL)
        problems.check(
            model is None or is_model(model), f"model is {type(model).__name__}; give a torch.nn.Module or an adapter."
        )
        problems.check(
            model is not None or device is None,
            f"device={device} has no effect without a model: a cascade computes where its model is.",
        )
        chosen = {name: given.pop(name) for name in _SELECTION if name in given}
        selection = NO_SELECTION
        with problems.collecting():
            selection = Selection(**chosen)
        checked = self._checked({**given, "selection": selection}, problems)
        if checked is not None and model is None:
            checked.check_cascade(problems)
        problems.done()
        assert checked is not None
        self._configure(checked)
        if model is not None:
            self.hold(adapted(model, device))

    def _checked(self, values: Mapping[str, Any], problems: Problems) -> Options | None:
        try:
            options: Options = self.options_type(**values)
        except UserError as error:  # says itself which stage it is of
            problems.found.extend(error.problems)
            return None
        return options

    def _configure(self, options: Options) -> None:
        self.options = options
        self.selection = options.selection
        self.needs_calibration = options.needs_calibration
        self.needs_targets = options.needs_targets
        self.forget()

    def forget(self) -> None:
        """Drop all that is known of a model."""
        self.model: Model | None = None

    @property
    def device(self) -> torch.device | None:
        """Where the model is that the stage was made with or last applied to; None before."""
        return None if self.model is None else next(self.model.module.parameters()).device

    def hold(self, model: Model) -> None:
        """Make ready for use by hand on `model`."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # else any attribute would do

        def __getattr__(self, name: str) -> Any:
            """An option under its own name, `stage.target_sparsity`."""
            if "options" in self.__dict__ and hasattr(type(self.options), name):
                return getattr(self.options, name)
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")

    @property
    def uses_calibration(self) -> bool:
        return self.needs_calibration or self.needs_targets or self.options.resolved(True).needs_calibration

    @property
    def takes_gradients(self) -> bool:
        return self.options.resolved(True).takes_gradients

    @property
    def strength(self) -> float | None:
        return getattr(self.options, self.strength_option) if self.strength_option else None

    def at(self, strength: float) -> Self:
        if self.strength is None:
            raise UserError(f"{self.who} has no strength to change: {self.no_strength}.")
        other = copy.copy(self)
        changed: dict[str, Any] = {self.strength_option: strength}
        other._configure(replace(self.options, **changed))
        return other

    def told(self) -> dict[str, Any]:
        """Its options, and those of its selection."""
        options = asdict(self.options)
        selection: dict[str, Any] = options.pop("selection")
        return {**options, **selection}

    def resolved_options(self, context: StageContext) -> Options:
        """The options with nothing left at 'auto'.

        Raises:
            UserError: there is no calibration data, and what 'auto' then takes does not go with the other options.
        """
        data = self._has_data(context)
        try:
            return self.options.resolved(data)
        except UserError as error:
            without = f"{self.who}: there is no calibration data, without which 'auto' is what is said above."
            raise UserError(*error.problems, *([] if data else [without])) from None

    def chosen(self, taken: Options, context: StageContext) -> dict[str, Any]:
        """The facts of a report on what options at 'auto' came to; none where no option is."""
        options = {field.name: getattr(taken, field.name) for field in fields(taken)}
        found = {name: value for name, value in options.items() if getattr(self.options, name) == AUTO != value}
        missed = not self._has_data(context) and taken != self.options.resolved(True)
        return ({CHOSEN: found} if found else {}) | ({WITHOUT_DATA: True} if missed else {})

    def _has_data(self, context: StageContext) -> bool:
        return bool(context.calibration)
