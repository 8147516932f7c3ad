"""Record the order in which each batch calls a model's layers, and merge the orders into one."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from rcc.errors import WorkError
from rcc.layers.identity import Identity
from rcc.layers.model import Batch, Model
from rcc.layers.units import Unit

Called = Callable[[Unit, nn.Module, Tensor], Any]


@dataclass(frozen=True)
class CallOrder:
    """The units that any batch calls, in an order that agrees with every batch's own.

    names: of the units, each at its first call. repeated: those that some batch calls more than once.
    """

    names: tuple[str, ...]
    repeated: frozenset[str]

    def of(self, wanted: Collection[str]) -> CallOrder:
        """The same of those units alone."""
        return CallOrder(tuple(name for name in self.names if name in wanted), self.repeated & set(wanted))


@dataclass(frozen=True)
class _Recorded:
    """An order with what it was recorded of: the batches' tensors, unchanged since, and the units."""

    batches: list[list[Identity]]
    units: frozenset[str]
    order: CallOrder


# Every round of a cascade walks the same model over the same batches: one recording forward is enough for all of them.
_recorded: WeakKeyDictionary[nn.Module, _Recorded] = WeakKeyDictionary()


def call_order(model: Model, units: Sequence[Unit], batches: Sequence[Batch]) -> CallOrder:
    """The order of the units' calls, recorded by one forward of every batch, without gradients; or recorded before.

    A layer must be solved once, at its first call, from the inputs of all its calls by all batches: so before the first
    layer is solved it must be known which layers come again, and which batches reach which layers.

    Raises:
        WorkError: two batches call the same layers in opposite orders, so that neither layer can be solved first.
    """
    wanted = {unit.name for unit in units}
    known = _recorded.get(model.module)
    if known is None or not wanted <= known.units or not _same(known.batches, batches):
        identities = [[Identity(tensor) for tensor in _tensors(batch)] for batch in batches]
        known = _Recorded(identities, frozenset(wanted), _record(model, units, batches))
        _recorded[model.module] = known
    return known.order.of(wanted)


def _tensors(batch: Batch) -> list[Tensor]:
    return [value for value in batch.values() if isinstance(value, Tensor)]


def _same(known: Sequence[Sequence[Identity]], batches: Sequence[Batch]) -> bool:
    given = [_tensors(batch) for batch in batches]
    return [len(batch) for batch in known] == [len(batch) for batch in given] and all(
        identity.is_of(tensor)
        for one, other in zip(known, given, strict=True)
        for identity, tensor in zip(one, other, strict=True)
    )


def _record(model: Model, units: Sequence[Unit], batches: Sequence[Batch]) -> CallOrder:
    repeated: set[str] = set()
    orders: list[list[str]] = []
    called: list[str] = []
    with torch.no_grad(), before_each_call(units, lambda unit, module, inputs: called.append(unit.name)):
        for batch in batches:
            called.clear()
            model.outputs(batch)
            counts = Counter(called)
            repeated.update(name for name, count in counts.items() if count > 1)
            orders.append(list(counts))  # a Counter keeps the order in which names came first
    return CallOrder(_merged(orders), frozenset(repeated))


def _merged(orders: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Sort topologically (Kahn 1962) what the `orders` put before what; among equals, the first seen comes first."""
    seen: dict[str, int] = {}
    after: dict[str, set[str]] = {}
    for order in orders:
        for name in order:
            seen.setdefault(name, len(seen))
            after.setdefault(name, set())
        for one, other in pairwise(order):
            after[one].add(other)
    before = Counter(name for names in after.values() for name in names)
    ready = [(place, name) for name, place in seen.items() if not before[name]]
    heapq.heapify(ready)
    found: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        found.append(name)
        for other in after[name]:
            before[other] -= 1
            if not before[other]:
                heapq.heappush(ready, (seen[other], other))
    if len(found) < len(seen):
        stuck = sorted(set(seen) - set(found), key=seen.__getitem__)
        raise WorkError(
            f"the calibration batches call {' and '.join(stuck[:2])} in opposite orders, so that neither layer can be"
            " solved before the other. Give batches of one kind (images, texts, or both together), or take options that"
            " solve no layers: solver=none with score=wanda for dare, metric=plain for nullu, repair=none for alpha,"
            " rounding=nearest for quant."
        )
    return tuple(found)


@dataclass(frozen=True)
class Call:
    """The input and the output of one call of a layer."""

    given: Tensor
    output: Tensor


def calls_of(model: Model, unit: Unit, batch: Batch) -> list[Call]:
    """Every call of `unit` in one forward of `batch`, in order, without gradients."""
    found: list[Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        found.append(Call(first_input(args, kwargs), output))

    with torch.no_grad(), ExitStack() as hooks:
        for module in unit.modules():
            # First of all hooks: the layer's own output, before a hook of the model's changes it.
            hooks.callback(module.register_forward_hook(note, prepend=True, with_kwargs=True).remove)
        model.outputs(batch)
    return found


@contextmanager
def before_each_call(units: Sequence[Unit], called: Called) -> Iterator[None]:
    """Inside, `called(unit, module, inputs)` comes before each forward of a unit's modules, tied ones included."""

    def before(unit: Unit, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        called(unit, module, first_input(args, kwargs))

    with ExitStack() as hooks:
        for unit in units:
            for module in unit.modules():
                hooks.callback(module.register_forward_pre_hook(partial(before, unit), with_kwargs=True).remove)
        yield


def first_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The first input of a call, given by position or by name."""
    found: Tensor = args[0] if args else next(iter(kwargs.values()))
    return found
