"""Rewrite the dense model before its first stage, exactly: norms folded, biases that cannot matter moved.

Everything is tried on one calibration batch: what changes the model's outputs by more than rounding is undone, one
rewriting after the other where all together do. What remains is the dense model of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rcc.calibration.hand_over import hand_overs
from rcc.calibration.targets import dense_outputs
from rcc.cascade.records import CANONICAL, FOLDED, KEYS, VALUES
from rcc.layers.batch_norm import (
    affine,
    constant_values,
    is_fixed,
    is_folded,
    make_canonical_,
    make_identity_,
    with_affine,
)
from rcc.layers.inert_biases import KeyBias, inert_biases
from rcc.layers.model import Batch
from rcc.layers.units import Unit
from rcc.models.adapter import Adapter

ROUNDING = 1e-4
"""Largest change of an output, as a share of the largest output, that counts as rounding in float32: sums in another
order differ by up to 1e-5 in the networks that were looked at."""


@dataclass
class Rewriting:
    """One change of the model: what it counts as, the layer it is named after, and how it is done and undone."""

    kind: str
    name: str
    modules: Sequence[nn.Module]
    change: Callable[[], None]
    _before: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    @torch.no_grad()
    def do(self) -> None:
        for module in self.modules:
            self._before.append((module, dict(module._parameters), dict(module._buffers)))
            if is_fixed(module):  # written in place: the tensors that were there stay as they were
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        module._parameters[name] = nn.Parameter(parameter.clone(), parameter.requires_grad)
                for name, buffer in module._buffers.items():
                    module._buffers[name] = None if buffer is None else buffer.clone()
        self.change()

    def undo(self) -> None:
        for module, parameters, buffers in self._before:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        self._before.clear()


def prepare(model: Adapter, batches: Sequence[Batch] | None) -> dict[str, Any]:
    """Rewrite `model` in place, looking at the first of `batches`; returns what was done, as plain data.

    Returns:
        the names of what was rewritten, of each kind; 'values_gone': of vectors, that are constants now;
        'output_change': the largest, as a share of the largest output; 'left_alone': why, by the name of each norm or
        layer that was left as it was.
        Empty where there is nothing to rewrite.
    """
    units = {unit.name: unit for unit in model.units() if unit.summing}
    norms = {name: module for name, module in model.module.named_modules() if is_fixed(module) and _does(module)}
    biases = [one for one in inert_biases(model.module, units) if all(map(_can_be_rewritten, one.units))]
    if not norms and not biases:
        return {}
    if not batches:
        return {"left_alone": dict.fromkeys(norms, "there is no calibration batch to look at")}
    left: dict[str, str] = {}
    rewritings = _of_norms(model, units, norms, batches[0], left) if norms else []
    for one in biases:
        kind, name = (KEYS if isinstance(one, KeyBias) else VALUES), one.units[0].name
        rewritings.append(Rewriting(kind, name, [unit.module for unit in one.units], one.move))
    constant = _constant(norms, units)
    before = dense_outputs(model, batches[:1])[0]
    done = _verified(model, batches[0], before, rewritings, left)
    names = {kind: [one.name for one in done if one.kind == kind] for kind in (FOLDED, CANONICAL, KEYS, VALUES)}
    return {
        **{kind: found for kind, found in names.items() if found},
        "values_gone": _constant(norms, units) - constant,
        "output_change": _change(before, dense_outputs(model, batches[:1])[0]),
        **({"left_alone": left} if left else {}),
    }


def move_biases_again(model: Adapter, prepared: Mapping[str, Any]) -> None:
    """Drop and move the biases of attention that `prepare` found not to matter, where a stage has settled them anew.

    A stage fits keys and values as any layer, with the best bias; what it makes of one is moved as the first was.
    """
    if KEYS in prepared or VALUES in prepared:
        units = {unit.name: unit for unit in model.units() if unit.summing}
        for one in inert_biases(model.module, units):
            kind = KEYS if isinstance(one, KeyBias) else VALUES
            if one.units[0].name in prepared.get(kind, ()):
                one.move()


def _of_norms(
    model: Adapter, units: Mapping[str, Unit], norms: Mapping[str, nn.Module], batch: Batch, left: dict[str, str]
) -> list[Rewriting]:
    """Each norm into the layer before it, or by itself; why not, in `left`."""
    layers = {name: unit.module for name, unit in units.items()}
    found = hand_overs(model, layers, norms, batch)
    rewritings = []
    for name, norm in norms.items():
        layer = found.layer_of.get(name)
        reason = found.reason.get(name) or _no_fold(units[layer], norm) if layer else found.reason[name]
        if not reason:
            assert layer is not None
            unit = units[layer]
            rewritings.append(Rewriting(FOLDED, name, [unit.module, norm], partial(_fold, unit, norm)))
        elif norm.weight is not None and not _is_canonical(norm):
            rewritings.append(Rewriting(CANONICAL, name, [norm], partial(make_canonical_, norm)))
            left[name] = f"not folded: {reason}"
        else:
            left[name] = reason
    return rewritings


def _no_fold(unit: Unit, norm: Any) -> str:
    if unit.obstacle:
        return f"{unit.name}, before it: {unit.obstacle}"
    if not _can_be_rewritten(unit):
        return f"{unit.name}, before it, is held in parts, shared, changed by hooks or in 16 bits"
    if unit.shape[0] != len(norm.running_mean):
        return f"{unit.name}, before it, has {unit.shape[0]} outputs and the norm {len(norm.running_mean)} channels"
    return ""


def _can_be_rewritten(unit: Unit) -> bool:
    form, module = unit.read(), unit.module
    plain = form.left is None and form.scale is None and not form.quantised
    hooked = module._forward_hooks or module._forward_pre_hooks
    return plain and not unit.tied and not unit.obstacle and not hooked and _is_wide(form.sparse)


def _is_wide(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype.itemsize >= 4


def _does(norm: Any) -> bool:
    """Whether a norm does anything, in a dtype that holds what it does."""
    hooked = norm._forward_hooks or norm._forward_pre_hooks
    return not is_folded(norm) and not hooked and _is_wide(norm.running_mean)


def _is_canonical(norm: Any) -> bool:
    return not bool(norm.running_mean.any()) and bool((norm.running_var == norm.running_var[0]).all())


def _fold(unit: Unit, norm: Any) -> None:
    unit.write(with_affine(unit.read(), *affine(norm)))
    make_identity_(norm)


def _verified(
    model: Adapter, batch: Batch, before: Mapping[str, Tensor], rewritings: Sequence[Rewriting], left: dict[str, str]
) -> list[Rewriting]:
    """Do them all; where outputs change, one after the other, each undone that changes them."""
    for one in rewritings:
        one.do()
    if _change(before, dense_outputs(model, [batch])[0]) <= ROUNDING:
        return list(rewritings)
    for one in reversed(rewritings):
        one.undo()
    done = []
    for one in rewritings:
        one.do()
        change = _change(before, dense_outputs(model, [batch])[0])
        if change <= ROUNDING:
            done.append(one)
        else:
            one.undo()
            left[one.name] = f"rewriting it would change an output by {change:.1e} of the largest"
    return done


def _change(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float:
    """max |now − before| / max |before| over the outputs that are numbers; infinite where one is not finite."""
    worst = 0.0
    for name, output in before.items():
        if output.is_floating_point() and output.numel():
            wide, other = output.double(), now[name].double()
            change = float((other - wide).abs().max() / wide.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
            worst = max(worst, change) if change == change else float("inf")
    return worst


def _constant(norms: Mapping[str, nn.Module], units: Mapping[str, Unit]) -> int:
    """Values of norms' and biases' vectors that are the first of theirs again, less those that are not."""
    total = sum(map(constant_values, norms.values()))
    for unit in units.values():
        bias = unit.read().bias
        if bias is not None:
            total += 0 if bool((bias == bias[0]).all()) else -len(bias)
    return total
