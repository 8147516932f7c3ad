"""Find the units of a model, the weights a stage may touch: each with a name, a role and a tower, read and written.

A unit is found in any `nn.Module`; what its role and tower are called is the model adapter's affair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear, FormModule, _parameter
from rcc.layers.obstacles import CONVOLUTIONS, held_latents, is_computed, is_part_of_held, obstacle
from rcc.layers.weight_layout import is_conv1d, matrix_of, matrix_shape_of, weight_of

_FORM_MODULES: dict[str, type[FormModule]] = {"linear": FormLinear, "conv": FormConv, "embedding": FormEmbedding}
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
    def matrix_values(self) -> int:
        """Values of the dense weight that stand in a parameter of more than one dimension.

        None of a norm whose weight is a vector, and none of a computed weight, which is made of other parameters.
        """
        module = self.module
        if isinstance(module, FormModule):
            return self.numel
        vector = self.kind == "norm" and isinstance(module.weight, Tensor) and module.weight.dim() < 2
        computed = "weight" not in module._parameters and is_computed(module)
        return 0 if vector or computed else self.numel

    @property
    def factorable(self) -> bool:
        """Whether the form may hold a low-rank pair here."""
        return self.kind != "norm" and self.groups is None

    @property
    def summing(self) -> bool:
        """Whether each output is a sum over inputs, so that the weight has second moments of inputs, of one group of
        channels or of several, and can be fitted by least squares to wanted outputs."""
        return self.kind in ("linear", "conv")

    @property
    def groups(self) -> int | None:
        """How many groups of rows see inputs of their own, as those of a depthwise convolution; None where all rows see
        the same."""
        groups: int = getattr(self.module, "groups", 1)
        return None if groups == 1 else groups

    def read(self) -> Form:
        """The form as stored now. Change its tensors only through `write`: they are the module's own, or a copy where
        the module keeps its weight in another layout."""
        module = self.module
        if isinstance(module, FormModule):
            return module.form
        weight = module.weight
        assert isinstance(weight, Tensor)
        if self.kind == "norm":
            return Form(sparse=weight.detach().reshape(1, -1))
        bias = getattr(module, "bias", None)
        return Form(sparse=matrix_of(module, weight.detach()), bias=None if bias is None else bias.detach())

    def write(self, form: Form) -> None:
        """Put `form` in place.

        The module stays the same object, with its hooks and whatever else the model hung on it: one that must compute
        with more than S is turned into a `FormModule`, and back into what it was once S alone will do. What was frozen
        (`requires_grad` off) stays frozen. Steps of a matrix that is no longer on their grid, because a stage changed
        its values, are let go.

        Raises:
            ValueError: the shape is not the unit's, or the module cannot hold the low-rank pair, the bias or the
                steps.
        """
        form = form.without_stale_steps()
        if held_latents(self.module):
            raise ValueError(f"{self.name} is held for training: release it before it is written")
        if form.shape != self.shape:
            raise ValueError(f"{self.name}: a form of {form.shape} does not fit a weight of {self.shape}")
        if form.left is not None and not self.factorable:
            raise ValueError(f"{self.name}: this {self.kind} cannot hold a low-rank pair")
        if form.bias is not None and self.kind in ("norm", "embedding"):
            raise ValueError(f"{self.name}: the form of {_a(self.kind)} has no bias")
        if form.quantised and self.kind == "norm":
            raise ValueError(f"{self.name}: the form of a norm has no quantisation steps")
        first, *others = self.modules()
        frozen = not any(parameter.requires_grad for parameter in first.parameters(recurse=False))
        if self.kind == "norm":
            form = form.folded()
        _put(first, self.kind, form)
        for other in others:
            _share(first, other, self.kind)
        if frozen:
            first.requires_grad_(False)

    def as_matrix(self, tensor: Tensor) -> Tensor:
        """A tensor in the layout of the plain layer's weight (its gradient, another checkpoint's) as (out, in)."""
        return tensor.reshape(1, -1) if self.kind == "norm" else matrix_of(self.module, tensor)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """The inverse of `as_matrix`: a matrix (out, in) in the layout of the plain layer's weight."""
        return matrix.reshape(-1) if self.kind == "norm" else weight_of(self.module, matrix.contiguous())

    def modules(self) -> list[nn.Module]:
        """The modules that hold the weight, each once, the unit's own first."""
        found = {id(module): module for module in map(self.root.get_submodule, (self.name, *self.tied))}
        return list(found.values())


def _put(module: nn.Module, kind: str, form: Form) -> None:
    """Make `module` one that computes with `form`: plain where S and a bias are all there is to it."""
    # GPT-2's layer adds its bias without asking whether there is one.
    plain = _is_plain(form) and not (is_conv1d(module) and form.bias is None)
    if plain:
        if isinstance(module, FormModule):
            module = module.give_back()
        assert form.sparse is not None
        norm = module.weight if kind == "norm" else None
        weight = form.sparse.reshape(norm.shape) if isinstance(norm, Tensor) else weight_of(module, form.sparse)
        module.weight = _parameter(weight)
        if kind in ("linear", "conv"):
            module.register_parameter("bias", None if form.bias is None else _parameter(form.bias))
    elif isinstance(module, FormModule):
        module.hold(form)
    else:
        _FORM_MODULES[kind].take_over(module, form)


def _share(first: nn.Module, other: nn.Module, kind: str) -> None:
    """Let `other`, a layer tied to `first`, compute with the very tensors that `first` holds."""
    if isinstance(first, FormModule):
        _put(other, kind, first.form)
        return
    if isinstance(other, FormModule):
        other = other.give_back()
        other.register_parameter("bias", None)
    other.weight = first.weight


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
        unit = Unit(root, name, kind, _shape(module, kind), role, tower, obstacle=obstacle(module, kind, parent))
        others = tuple(owner for owner in owners[_identity(module)] if owner != name)
        if others:
            unit = _tie(unit, others, module)
        units.append(unit)
    return units


def is_layer(module: nn.Module) -> bool:
    """Whether `module` itself is a layer of a kind that units are made of."""
    return _kind(module) is not None


def _tie(unit: Unit, others: tuple[str, ...], module: nn.Module) -> Unit:
    modules = [unit.root.get_submodule(other) for other in others]
    same = all(other is module for other in modules)
    replaceable = unit.kind == "linear" and all(
        _kind(other) == "linear"
        and _identity(other) == _identity(module)
        and is_conv1d(other) == is_conv1d(module)
        and (other.bias is None or (isinstance(other, FormModule) and other.bias is module.bias))
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
        if is_part_of_held(module):
            continue
        for parameter in (*module._parameters.values(), *held_latents(module).values()):
            if parameter is not None:
                owners[id(parameter)].append(name)
    return owners


def _identity(module: nn.Module) -> int:
    latents = held_latents(module)
    if isinstance(module, FormModule):
        name = "sparse" if module.sparse is not None else "left"
        return id(latents[name] if name in latents else getattr(module, name))
    if "weight" in latents:
        return id(latents["weight"])
    weight = module.weight
    return id(weight if isinstance(weight, nn.Parameter) else module)  # a computed weight is new at each read


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear | FormLinear) or is_conv1d(module):
        return "linear"
    if isinstance(module, (*CONVOLUTIONS, FormConv)):
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
    return (1, weight.numel()) if kind == "norm" else matrix_shape_of(module, tuple(weight.shape))


def _is_plain(form: Form) -> bool:
    return form.left is None and form.scale is None and not form.quantised


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def non_finite(units: list[Unit]) -> Iterator[tuple[Unit, str]]:
    """The units that hold a NaN or an infinity, with the name of the tensor that does."""
    for unit in units:
        form = unit.read()
        for part, tensor in (*form.matrices(), ("scale", form.scale), ("bias", form.bias)):
            if tensor is not None and not bool(torch.isfinite(tensor).all()):
                yield unit, part
