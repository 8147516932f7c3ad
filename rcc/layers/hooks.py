"""Carry the hooks of a module over to one that runs in its place."""

from __future__ import annotations

from torch import nn

_HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook",
)  # fmt: skip
"""The attributes in which torch keeps a module's hooks."""


def take_hooks(module: nn.Module, like: nn.Module) -> None:
    """Let `module` run the very hooks that `like` runs: what is registered or removed later counts for both."""
    for name in _HOOKS:
        module.__dict__[name] = like.__dict__[name]
