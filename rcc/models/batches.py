"""Turn what a data loader yields into a batch of named tensors, and what a forward returns into named outputs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rcc.errors import Problems, UserError, nearest
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.single_layer import SingleLayer, class_name

LABELS = "labels"
"""The entry under which the targets of a batch (x, y) come, for losses; a forward without such a parameter never sees
it."""
LABEL_NAMES = (LABELS, "label", "target", "targets", "y")
"""Names that a forward, or a mapping, may have for it, the likeliest first."""
WANTED = (
    "A batch is a tensor, a tuple or list (inputs…, labels) of tensors, or a mapping of tensors by the names of the"
    " forward's parameters"
)


def as_batch(item: Any, adapter: Adapter) -> Batch:
    """`item`, one element of a data loader, as the batch of named tensors that `adapter` takes, on its device.

    A tensor is the forward's first input. In a tuple or list the tensors are the forward's inputs in order: as many as
    it requires, or one more, which is then the labels; (inputs, labels) may hold a tuple or a mapping of inputs. In a
    mapping each name is one that the adapter takes, or 'labels'.

    Raises:
        UserError: anything else; says what was found and which form is wanted.
    """
    parameters = input_names(adapter)
    named = _named(item, parameters, adapter)
    problems = [
        f"the batch's '{name}' is {_told(value)}; it must be a tensor." if not isinstance(value, Tensor) else ""
        for name, value in named.items()
    ]
    known = (*parameters.every, LABELS)
    problems += [
        f"the batch has '{name}', which the forward does not take.{nearest(name, known)}"
        f" It takes {', '.join(parameters.every) or 'no named parameter'}."
        for name in named
        if not parameters.open and name not in known
    ]
    if found := [problem for problem in problems if problem]:
        raise UserError(*found, f"{WANTED}.")
    return {name: value.to(adapter.device) for name, value in named.items()}


@dataclasses.dataclass(frozen=True)
class InputNames:
    """The parameters of a forward: those it `requires`, `every` one, and whether other names are taken too (`open`)."""

    requires: tuple[str, ...]
    every: tuple[str, ...]
    open: bool = False


def input_names(adapter: Adapter) -> InputNames:
    """What the adapter's batches may hold: `adapter.batch_names` where it says so, else the forward's parameters."""
    if adapter.batch_names is not None:
        return InputNames(tuple(adapter.batch_names), tuple(adapter.batch_names))
    found = parameters_of(adapter.module)
    # Outputs that are a function of the batch may read anything in it.
    return found if adapter.calls_by_name else dataclasses.replace(found, open=True)


def parameters_of(module: nn.Module) -> InputNames:
    """The parameters of the forward of `module`, by its signature."""
    inner = getattr(module, "_orig_mod", module)  # of torch.compile
    inner = inner.layer if isinstance(inner, SingleLayer) else inner
    by_name = inspect.signature(inner.forward).parameters.values()
    named = [each for each in by_name if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return InputNames(
        tuple(each.name for each in named if each.default is each.empty),
        tuple(each.name for each in named),
        any(each.kind is each.VAR_KEYWORD for each in by_name),
    )


def _named(item: Any, parameters: InputNames, adapter: Adapter) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {str(name): value for name, value in item.items()}
    if isinstance(item, Tensor):
        return {_first(parameters, item, adapter): item}
    if not isinstance(item, Sequence) or isinstance(item, str) or not item:
        raise UserError(f"a batch is {_told(item)}. {WANTED}.")
    if len(item) == 2 and isinstance(item[0], Mapping | tuple | list):
        inputs = _named(item[0], parameters, adapter)
        return inputs | {_labels(parameters): item[1]}
    # A forward without a required parameter, as those of transformers, takes its first one.
    requires = parameters.requires or parameters.every[:1]
    if len(item) not in (len(requires), len(requires) + 1):
        raise UserError(
            f"a batch of {len(item)} tensors, and the forward of {class_name(adapter.module)} requires"
            f" {len(requires)} ({', '.join(requires)}): the batch may hold these, or these and the labels. Else give a"
            f" mapping by name: it takes {', '.join(parameters.every)}."
        )
    if len(requires) == 1:
        requires = (_first(parameters, item[0], adapter),)
    labels = [_labels(parameters)] if len(item) > len(requires) else []
    return dict(zip((*requires, *labels), item, strict=True))


def _first(parameters: InputNames, tensor: Any, adapter: Adapter) -> str:
    """The name of the input that a tensor by itself is."""
    if len(parameters.requires) > 1 and adapter.batch_names is None:
        raise UserError(
            f"a batch of one tensor, and the forward of {class_name(adapter.module)} requires"
            f" {', '.join(parameters.requires)}. {WANTED}."
        )
    # Of a model that reads texts and images, whose forward leaves every input open, pixels are what is no token.
    pixels = isinstance(tensor, Tensor) and tensor.dim() == 4 and tensor.is_floating_point()
    if pixels and "pixel_values" in parameters.every:
        return "pixel_values"
    if not parameters.every:
        raise UserError(
            f"the forward of {class_name(adapter.module)} takes its inputs by position alone (*args), so that no"
            " name can be given to them: wrap the model in one whose forward names its inputs, or give"
            " ModuleAdapter(module, outputs=...)."
        )
    return (parameters.requires or parameters.every)[0]


def _labels(parameters: InputNames) -> str:
    """The forward's own name for labels, where it takes them."""
    return next((name for name in LABEL_NAMES if name in parameters.every), LABELS)


def call_by_name(module: nn.Module, batch: Batch) -> Any:
    """What `module` returns for the entries of `batch` as keyword arguments, without labels that it does not take."""
    parameters = parameters_of(module)
    if LABELS in batch and LABELS not in parameters.every and not parameters.open:
        batch = {name: tensor for name, tensor in batch.items() if name != LABELS}
    return module(**batch)


def named_outputs(result: Any) -> dict[str, Tensor]:
    """The tensors of what a forward returned, by name; empty where there are none.

    'output' for a tensor; the keys of a mapping (a ModelOutput of transformers is one), of a named tuple or of a
    dataclass; 'output_0', 'output_1', … of a tuple or list, where an inner tuple goes on with 'output_1_0'. Where there
    are floating-point tensors the others, such as indices, are left out, and so are scalars, such as a loss, where
    anything else is there.
    """
    found = dict(_tensors("output", result))
    for keep in (Tensor.is_floating_point, Tensor.dim):
        chosen = {name: tensor for name, tensor in found.items() if keep(tensor)}
        found = chosen or found
    return found


def chosen_outputs(found: Mapping[str, Tensor], names: Sequence[str], who: str) -> dict[str, Tensor]:
    """Those of the outputs `found` that are called `names`, in that order; all of them where `names` is empty.

    Args:
        who: whose outputs they are, for messages.

    Raises:
        UserError: there is no output of such a name; lists those there are, with their shapes.
    """
    problems = Problems()
    for name in names:
        there = ", ".join(f"{each} {list(tensor.shape)}" for each, tensor in found.items())
        problems.check(
            name in found, f"the output '{name}' was asked for and {who} gives {there}.{nearest(name, found)}"
        )
    problems.done()
    return {name: found[name] for name in names or found}


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
        return
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        for index, each in enumerate(value):
            yield from _tensors(name if len(value) == 1 else f"{name}_{index}", each)
        return
    named = _entries(value)
    # What else a ModelOutput holds, such as hidden states or a cache, is no output of its own beside its tensors.
    direct = {key: each for key, each in named.items() if isinstance(each, Tensor)}
    for key, each in (direct or named).items():
        yield from _tensors(key, each)


def _entries(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key): each for key, each in value.items()}
    if hasattr(value, "_fields"):
        return dict(value._asdict())
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return {}


def _told(value: Any) -> str:
    return f"of type {type(value).__name__}"
