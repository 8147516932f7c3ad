"""Find why a layer cannot be held in the form, and the matrices of a model that belong to no such layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcc.layers.attention import OpenAttention
from rcc.layers.batch_norm import is_fixed, is_folded
from rcc.layers.form import MATRICES, STEPS
from rcc.layers.modules import FormModule
from rcc.layers.own_padding import RECIPE, own_padding, pads_by_itself
from rcc.layers.weight_layout import is_conv1d, plain_class

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KNOWN_FORWARDS = (nn.Linear.forward, nn.Embedding.forward, *(kind.forward for kind in CONVOLUTIONS))
_READ_BY_ATTENTION = "nn.MultiheadAttention reads its weight and never calls it"
_REASONS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.RNNBase, "the layer is recurrent: its weights are multiplied with its own outputs, step after step"),
    (nn.RNNCellBase, "the layer is recurrent: its weights are multiplied with its own outputs, step after step"),
    (nn.MultiheadAttention, _READ_BY_ATTENTION),
    (nn.Bilinear, "a bilinear layer multiplies its weight with two inputs at once"),
    (nn.EmbeddingBag, "an embedding bag sums rows before anything sees them"),
)


@dataclass(frozen=True)
class LoneMatrix:
    """A parameter of more than one dimension that no unit speaks for: `values` of them, left as they are."""

    name: str
    values: int
    reason: str


def obstacle(module: Any, kind: str, parent: nn.Module) -> str:
    """The reason for which the form cannot replace the weight of `module`, which `parent` holds; empty if it can."""
    if type(parent).forward is nn.MultiheadAttention.forward:
        return _READ_BY_ATTENTION
    held = isinstance(module, FormModule)
    if not held and is_computed(module):
        return "its weight is computed by a parametrisation"
    if not held and kind == "conv" and pads_by_itself(module):
        if own_padding(module) is None:
            return f"{type(module).__name__} computes in a way of its own, which the form would replace: {RECIPE}"
    elif not held and kind != "norm" and not _computes_as_torch(module):
        return f"{type(module).__name__} computes in a way of its own, which the form would replace"
    if kind == "conv" and getattr(module, "padding_mode", "zeros") != "zeros":
        return f"padding_mode '{module.padding_mode}' cannot be held in the form"
    if kind == "norm" and is_fixed(module) and is_folded(module):
        return "it is folded into the layer before it: its weight is a constant"
    if kind == "embedding" and getattr(module, "max_norm", None) is not None:
        return "an embedding with max_norm rewrites its own rows"
    if not held and kind != "norm" and (name := _own_attribute(module, kind)):
        return f"it has an attribute '{name}' of its own, a name that the form needs"
    return ""


def is_computed(module: Any) -> bool:
    """Whether the weight or the bias is made anew from other tensors, by a parametrisation or by a hook before the
    forward (weight_norm and spectral_norm, old and new, and the masks of torch.nn.utils.prune).

    A parametrisation that says `holds_form`, because what it makes can be read and written as the weight, is none.
    """
    for name in ("weight", "bias"):
        tensor = getattr(module, name, None)
        if tensor is not None and not isinstance(tensor, nn.Parameter):
            chain = getattr(module, "parametrizations", {})
            if name not in chain or not holds_form(chain[name]):
                return True
    return False


def held_latents(module: nn.Module) -> dict[str, Tensor]:
    """The latent tensors behind the parameters that a parametrisation with `holds_form` makes, by name."""
    chains = getattr(module, "parametrizations", {})
    return {name: chain.original for name, chain in chains.items() if holds_form(chain)}


def holds_form(chain: Iterable[nn.Module]) -> bool:
    """Whether what a chain of parametrisations makes can be read and written as the parameter itself."""
    return all(getattr(each, "holds_form", False) for each in chain)


def is_part_of_held(module: nn.Module) -> bool:
    """Whether `module` only serves a layer that is held for training, which speaks for all that lies in it."""
    return hasattr(module, "holds_form") or (isinstance(module, parametrize.ParametrizationList) and holds_form(module))


def _computes_as_torch(module: Any) -> bool:
    kind = plain_class(module)
    if issubclass(kind, CONVOLUTIONS):
        # torch's convolutions may be given another `_conv_forward` and keep their `forward`.
        base = next(each for each in CONVOLUTIONS if issubclass(kind, each))
        own = getattr(kind, "_conv_forward", None) is not getattr(base, "_conv_forward", None)
        return not own and kind.forward in _KNOWN_FORWARDS
    if is_conv1d(module):
        return kind.__name__ == "Conv1D"
    return kind.forward in _KNOWN_FORWARDS


def _own_attribute(module: nn.Module, kind: str) -> str:
    names = (*MATRICES, "scale", *STEPS)
    return next((name for name in names if hasattr(module, name) and (kind, name) != ("embedding", "sparse")), "")


def lone_matrices(root: nn.Module, modules: Sequence[nn.Module]) -> Iterator[LoneMatrix]:
    """The parameters of more than one dimension that are no weight of `modules`, those of the units.

    Those of a recurrent or another known layer come as one, under the layer's name; any other under its own. A
    parameter that several modules share comes once.
    """
    seen = {id(tensor) for module in modules for tensor in _weights(module)}
    for prefix, module in root.named_modules():
        reason = next((reason for kind, reason in _REASONS if isinstance(module, kind)), "")
        reason = "" if isinstance(module, OpenAttention) else reason
        if is_part_of_held(module):
            continue  # the unit's own weight
        if isinstance(module, parametrize.ParametrizationList):
            reason = "a parametrisation computes a weight from it"
        alone = {}
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1 and id(parameter) not in seen:
                seen.add(id(parameter))
                alone[name] = parameter.numel()
        if alone and reason:
            yield LoneMatrix(prefix or type(module).__name__, sum(alone.values()), reason)
            continue
        for name, values in alone.items():
            why = f"a parameter of {type(module).__name__} itself, which rcc does not know"
            if hasattr(module, "weight") and is_computed(module):
                why = "a weight is computed from it before each forward"
            yield LoneMatrix(f"{prefix}.{name}" if prefix else name, values, why)


def _weights(module: Any) -> Iterator[Tensor]:
    """The tensors that the form of a unit's module is made of."""
    names = (*MATRICES, "scale") if isinstance(module, FormModule) else ("weight",)
    for name in names:
        tensor = module._parameters.get(name)
        if tensor is not None:
            yield tensor
