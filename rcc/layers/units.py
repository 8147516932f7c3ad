"""Units: the weights a stage may touch, each with a name, a role, a tower, a get and a set.

A unit is found in any `nn.Module`; what its role and tower are called is the model adapter's affair.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear, FormModule, _parameter

_KNOWN_FORWARDS = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Embedding.forward)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Unit:
    """One compressible weight of `root`.

    `kind` is 'linear', 'conv', 'embedding' or 'norm' (a norm is a 1 × n matrix: it can be pruned, nothing
    else). `tied` names the other modules that share this very weight; the unit speaks for all of them.
    """

    root: nn.Module
    name: str
    kind: str
    shape: tuple[int, int]
    role: str = "linear"
    tower: str = "model"
    tied: tuple[str, ...] = ()
    obstacle: str = ""

    @property
    def module(self) -> nn.Module:
        return self.root.get_submodule(self.name)

    @property
    def numel(self) -> int:
        """Values of the dense weight, out × in."""
        return self.shape[0] * self.shape[1]

    @property
    def factorable(self) -> bool:
        """Whether the form may hold a low-rank pair here."""
        module = self.module
        return self.kind != "norm" and getattr(module, "groups", 1) == 1

    def read(self) -> Form:
        """The form as stored now. Its tensors are the module's own: change them only through `write`."""
        module = self.module
        if isinstance(module, FormModule):
            return module.form
        weight = module.weight
        assert isinstance(weight, Tensor)
        if self.kind == "norm":
            return Form(sparse=weight.detach().reshape(1, -1))
        bias = getattr(module, "bias", None)
        return Form(sparse=weight.detach().flatten(1), bias=None if bias is None else bias.detach())

    def write(self, form: Form) -> None:
        """Put `form` in place, replacing the module where its structure asks for it.

        A form that is S alone, without steps, lives in a plain torch module, so that an untouched layer stays what it
        was; a plain module stays the same object. What was frozen (`requires_grad` off) stays frozen. Steps of a
        matrix that is no longer on their grid, because a stage changed its values, are let go.

        Raises:
            ValueError: the shape is not the unit's, or the module cannot hold the low-rank pair, the bias or the
                steps.
        """
        form = form.without_stale_steps()
        if form.shape != self.shape:
            raise ValueError(f"{self.name}: a form of {form.shape} does not fit a weight of {self.shape}")
        if form.left is not None and not self.factorable:
            raise ValueError(f"{self.name}: this {self.kind} cannot hold a low-rank pair")
        if form.bias is not None and self.kind in ("norm", "embedding"):
            raise ValueError(f"{self.name}: the form of {_a(self.kind)} has no bias")
        if form.quantised and self.kind == "norm":
            raise ValueError(f"{self.name}: the form of a norm has no quantisation steps")
        frozen = not any(parameter.requires_grad for parameter in self.module.parameters(recurse=False))
        if self.kind == "norm":
            form = form.folded()
        if _is_plain(form) and not isinstance(self.module, FormModule):
            _hold(self.module, form)
            for name in self.tied:
                self.root.get_submodule(name).weight = self.module.weight
        else:
            replacement = self._module_for(form)
            for name in (self.name, *self.tied):
                parent, _, child = name.rpartition(".")
                setattr(self.root.get_submodule(parent), child, replacement)
        if frozen:
            self.module.requires_grad_(False)

    def _module_for(self, form: Form) -> nn.Module:
        now = self.module
        plain = _is_plain(form)
        replacement: nn.Module
        if self.kind == "embedding":
            assert isinstance(now, nn.Embedding | FormEmbedding)
            replacement = _plain_embedding(form, now) if plain else FormEmbedding(form, now)
        elif self.kind == "conv":
            assert isinstance(now, nn.Conv1d | nn.Conv2d | FormConv)
            replacement = _plain_conv(form, now) if plain else FormConv(form, now)
        else:
            replacement = _plain_linear(form) if plain else FormLinear(form)
        return replacement.train(now.training)


def find_units(
    root: nn.Module,
    name_role_and_tower: Callable[[str, str], tuple[str, str]] | None = None,
) -> list[Unit]:
    """Every weight of `root` that the form can hold, in the order of `named_modules`.

    Args:
        root: any module.
        name_role_and_tower: `(module name, kind) -> (role, tower)`; by default the kind, and the first part
            of the module's name.

    A weight shared by several modules is one unit, named after the first of them. A weight that cannot be
    compressed (tied to something the form cannot replace, an unusual padding mode) is found all the same,
    with the reason as its `obstacle`.
    """
    owners = _owners(root)
    units: list[Unit] = []
    found: set[int] = set()
    for name, module in root.named_modules():
        kind = _kind(module)
        if kind is None or not name or _identity(module) in found:
            continue
        found.add(_identity(module))
        role, tower = kind, name.partition(".")[0]
        if name_role_and_tower is not None:
            role, tower = name_role_and_tower(name, kind)
        parent = root.get_submodule(name.rpartition(".")[0])
        unit = Unit(root, name, kind, _shape(module, kind), role, tower, obstacle=_obstacle(module, kind, parent))
        others = tuple(owner for owner in owners[_identity(module)] if owner != name)
        if others:
            unit = _tie(unit, others, module)
        units.append(unit)
    return units


def _tie(unit: Unit, others: tuple[str, ...], module: nn.Module) -> Unit:
    modules = [unit.root.get_submodule(other) for other in others]
    same = all(other is module for other in modules)
    replaceable = unit.kind == "linear" and all(
        _kind(other) == "linear" and _identity(other) == _identity(module) and other.bias is None
        for other in (module, *modules)
    )
    if same or replaceable:
        return replace(unit, tied=others)
    sharing = ", ".join(other or "the model itself" for other in others)
    return replace(unit, tied=others, obstacle=f"its weight is shared with {sharing}")


def _owners(root: nn.Module) -> dict[int, list[str]]:
    """The names of the modules that hold each parameter, by its identity, in the order of `named_modules`."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in root.named_modules(remove_duplicate=False):
        for _, parameter in module.named_parameters(recurse=False):
            owners[id(parameter)].append(name)
    return owners


def _identity(module: nn.Module) -> int:
    if isinstance(module, FormModule):
        return id(module.sparse if module.sparse is not None else module.left)
    weight = module.weight
    return id(weight if isinstance(weight, nn.Parameter) else module)  # a computed weight is new at each read


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear | FormLinear):
        return "linear"
    if isinstance(module, nn.Conv1d | nn.Conv2d | FormConv):
        return "conv"
    if isinstance(module, nn.Embedding | FormEmbedding):
        return "embedding"
    if isinstance(module, NORMS) and isinstance(getattr(module, "weight", None), Tensor):
        return "norm"
    return None


def _shape(module: nn.Module, kind: str) -> tuple[int, int]:
    if isinstance(module, FormModule):
        return module.form.shape
    weight = module.weight
    assert isinstance(weight, Tensor)
    return (1, weight.numel()) if kind == "norm" else (weight.shape[0], math.prod(weight.shape[1:]))


def _obstacle(module: nn.Module, kind: str, parent: nn.Module) -> str:
    if isinstance(parent, nn.MultiheadAttention):
        return "nn.MultiheadAttention reads its weight and never calls it"
    if not isinstance(module, FormModule) and not isinstance(module.weight, nn.Parameter):
        return "its weight is computed by a parametrisation"
    if not isinstance(module, FormModule) and kind != "norm" and type(module).forward not in _KNOWN_FORWARDS:
        return f"{type(module).__name__} computes in a way of its own, which the form would replace"
    if kind == "conv" and getattr(module, "padding_mode", "zeros") != "zeros":
        return f"padding_mode '{module.padding_mode}' cannot be held in the form"
    if kind == "embedding" and getattr(module, "max_norm", None) is not None:
        return "an embedding with max_norm rewrites its own rows"
    return ""


def _is_plain(form: Form) -> bool:
    return form.left is None and form.scale is None and not form.quantised


def _plain_linear(form: Form) -> nn.Module:
    out_features, in_features = form.shape
    module = nn.Linear(in_features, out_features, bias=False, device="meta")
    return _hold(module, form)


def _plain_embedding(form: Form, like: nn.Embedding | FormEmbedding) -> nn.Module:
    return _hold(nn.Embedding(*form.shape, padding_idx=like.padding_idx, device="meta"), form)


def _plain_conv(form: Form, like: nn.Conv1d | nn.Conv2d | FormConv) -> nn.Module:
    kind: Callable[..., nn.Module] = nn.Conv1d if len(like.kernel_size) == 1 else nn.Conv2d
    module = kind(
        like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation,
        like.groups, bias=False, device="meta",
    )  # fmt: skip
    return _hold(module, form)


def _hold(module: nn.Module, form: Form) -> nn.Module:
    """Put S and the bias of `form` into a plain module; a form without a bias takes the module's away."""
    assert form.sparse is not None
    assert isinstance(module.weight, Tensor)
    module.weight = _parameter(form.sparse.reshape(module.weight.shape))
    if _kind(module) in ("linear", "conv"):
        module.register_parameter("bias", None if form.bias is None else _parameter(form.bias))
    return module


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def non_finite(units: list[Unit]) -> Iterator[tuple[Unit, str]]:
    """The units that hold a NaN or an infinity, with the name of the tensor that does."""
    for unit in units:
        form = unit.read()
        for part, tensor in (*form.matrices(), ("scale", form.scale), ("bias", form.bias)):
            if tensor is not None and not bool(torch.isfinite(tensor).all()):
                yield unit, part
