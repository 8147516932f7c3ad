"""Build what a config file names: stages, models, data sets, evaluators, loggers, trainers and jobs, all in one way.

A file's `_target_` is the import path of a class of the kind that is wanted, or of a function that is annotated to
return one. That is checked before anything is called: a config cannot call what is of no such kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, TypeVar, cast, get_type_hints

from rcc import shipped
from rcc.errors import Problems, UserError
from rcc.option_types import fits, hints_of, wanted

TARGET = "_target_"
OPTIONS = "checked_options"
"""The attribute of a function that names the dataclass of its options."""
Function = TypeVar("Function", bound=Callable[..., Any])
OPEN_ENDED = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)


def locate(where: str, target: object, kind: type) -> Any:
    """The class or the function at the import path `target`, of the kind `kind`.

    Args:
        where: the option that names it, for messages, as 'stage.dare'.

    Raises:
        UserError: it cannot be imported, or is neither a subclass of `kind` nor annotated to return one.
    """
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything when it is imported
        reason = "it names no module" if not module else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{where}: its _target_ '{target}' cannot be imported ({reason}). It must be package.module.name of"
            f" {_wanted(kind)}, in an installed package or one that PYTHONPATH leads to."
        ) from error
    if not _is_of(found, kind):
        raise UserError(f"{where}: its _target_ '{target}' is not {_wanted(kind)}.")
    return found


def build(where: str, kind: type, node: Mapping[str, Any], **offered: Any) -> Any:
    """What the `_target_` of `node` makes of the node's options, and of those `offered` that it has parameters for.

    Raises:
        UserError: as `checked`.
    """
    return _called(checked(where, kind, node, offered), node, offered)


def checked(where: str, kind: type, node: Mapping[str, Any], offered: Iterable[str] = ()) -> Callable[..., Any]:
    """The class or the function that `node` names, after its options were checked, their ranges too where it
    `takes` a dataclass of them; nothing is called.

    Raises:
        UserError: as `locate`, as `check_options`, or as the dataclass.
    """
    factory = locate(where, node.get(TARGET), kind)
    check_options(where, factory, _options(node), offered)
    if hasattr(factory, OPTIONS):
        getattr(factory, OPTIONS)(**_options(node))
    return cast("Callable[..., Any]", factory)


def takes(options: type) -> Callable[[Function], Function]:
    """Let the fields of a dataclass that checks itself be the parameters of a function, which has `**options` for them.

    `checked` then makes one, so that values out of range are refused before anything else the function needs is there.
    """

    def given(function: Function) -> Function:
        own = signature(function)
        hints = get_type_hints(options)
        parameters = [each for each in own.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        ours = [Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default) for each in fields(options)]
        made: Any = function
        made.__signature__ = own.replace(parameters=[*parameters, *ours])
        made.__annotations__ |= {each.name: hints[each.name] for each in fields(options)}
        setattr(made, OPTIONS, options)
        return function

    return given


def build_named(group: str, name: str, kind: type, options: Mapping[str, Any]) -> Any:
    """What the shipped choice `name` of a config group makes of `options`; those left out are the constructor's own.

    Raises:
        UserError: no such choice, or an option that is refused.
    """
    factory = locate(f"{group}={name}", shipped.target(group, name), kind)
    return call(f"{group} '{name}'", factory, options)


def call(where: str, factory: Callable[..., Any], options: Mapping[str, Any], **offered: Any) -> Any:
    """`factory` called with `options`, and with those `offered` that it takes, after they were checked.

    Raises:
        UserError: as `check_options`.
    """
    check_options(where, factory, options, offered)
    return _called(factory, options, offered)


def check_options(
    where: str, factory: Callable[..., Any], options: Mapping[str, Any], offered: Iterable[str] = ()
) -> None:
    """Refuse options that `factory` does not take or of another type than it is annotated, and the lack of one that it
    needs.

    Args:
        offered: the names of what else it will be given where it has a parameter for it.

    Raises:
        UserError: every such option, with the nearest it takes.
    """
    parameters = signature(factory).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    taken = [name for name in parameters if name not in offered]
    problems = Problems(where)
    for option in options:
        if Parameter.VAR_KEYWORD not in kinds.values():
            problems.choice("option", option, taken)
    hints = hints_of(factory)
    for option, value in options.items():
        if option in taken and option in hints:
            problems.check(fits(value, hints[option]), f"{option} is {value!r}; it must be {wanted(hints[option])}.")
    for name in taken:
        needed = parameters[name].default is Parameter.empty and kinds[name] not in OPEN_ENDED
        problems.check(not needed or name in options, f"the option '{name}' has no default and was not given.")
    problems.done()


def _called(factory: Callable[..., Any], node: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    parameters = signature(factory).parameters
    return factory(**{name: value for name, value in offered.items() if name in parameters}, **_options(node))


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != TARGET}


def _is_of(found: Any, kind: type) -> bool:
    if isinstance(found, type):
        return issubclass(found, kind)
    try:
        returned = get_type_hints(found).get("return") if callable(found) else None
    except (NameError, TypeError):  # an annotation that means nothing here
        return False
    return isinstance(returned, type) and issubclass(returned, kind)


def _wanted(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return f"a subclass of {name}, or a function annotated to return one"
