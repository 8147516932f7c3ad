from __future__ import annotations

import torch
from torch import nn

from rcc.layers.hooks import take_hooks


def test_the_hooks_of_one_module_run_on_another_until_they_are_removed() -> None:
    like, module, calls = nn.Linear(2, 2), nn.Linear(2, 2), []
    handles = [
        like.register_forward_pre_hook(lambda _, args, kwargs: calls.append("before"), with_kwargs=True),
        like.register_forward_hook(lambda _, given, output: calls.append("after")),
        like.register_full_backward_hook(lambda _, given, output: calls.append("back")),
    ]
    take_hooks(module, like)
    module(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert calls == ["before", "after", "back"]
    for handle in handles:
        handle.remove()
    module(torch.ones(1, 2))
    assert calls == ["before", "after", "back"]
