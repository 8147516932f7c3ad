"""Tell what a layer of any architecture is for: its role and its tower, by the classes and names it lies in.

The adapters of single architectures know their own names; this is for every other network of attention and mlps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

ROLES = ("attention", "cross_attention", "mlp", "projection", "head", "conv")
"""The roles that are compressed by default; `embedding` and `norm` are left alone unless asked."""
HEADS = ("head", "classifier", "score", "lm_head", "proj_out", "qa_outputs", "predictions", "embed_out", "logits")
"""Parts of the name of a layer that makes what the model is asked for."""
CROSS = ("cross", "encoder_attn", "encdec")
TOWERS = {"vision": ("vision", "visual", "image"), "text": ("text",), "audio": ("audio", "speech")}


def roles_of(root: nn.Module) -> Callable[[str, str], tuple[str, str]]:
    """`(module name, kind) -> (role, tower)` for the layers of `root`, as `ModuleAdapter(module, roles=...)` takes it.

    A token table is an `embedding`, and so is a convolution that makes patches of pixels; a layer inside a module whose
    class is called …Attention is `attention`, or `cross_attention` where named so; one of `HEADS` is the `head`;
    any other inside a repeated block is of the `mlp`, outside of blocks a `projection`. Towers are vision, text and
    audio where names say so, else encoder and decoder where there are both, else `model`.
    """
    both = {"encoder", "decoder"} <= {part for name, _ in root.named_modules() for part in name.split(".")[:2]}

    def of(name: str, kind: str) -> tuple[str, str]:
        return _role(root, name, kind), _tower(name, both)

    return of


def _role(root: nn.Module, name: str, kind: str) -> str:
    if kind in ("norm", "embedding"):
        return kind
    if kind == "conv":
        return "embedding" if "embed" in name or "patch" in name else "conv"
    if any("attention" in type(each).__name__.lower() for each in _ancestors(root, name)):
        return "cross_attention" if any(mark in name.lower() for mark in CROSS) else "attention"
    steps = name.split(".")
    if any(step in HEADS for step in steps):
        return "head"
    return "mlp" if any(step.isdigit() for step in steps) else "projection"


def _ancestors(root: nn.Module, name: str) -> Iterator[nn.Module]:
    module = root
    for step in name.split(".")[:-1]:
        module = module.get_submodule(step)
        yield module


def _tower(name: str, both: bool) -> str:
    steps = name.split(".")
    for tower, marks in TOWERS.items():
        if any(mark in step for mark in marks for step in steps):
            return tower
    return next((step for step in steps[:2] if both and step in ("encoder", "decoder")), "model")
