"""A model is measured in evaluation mode and put back, even where parts were replaced meanwhile."""

import pytest
import torch
from torch import nn

from rcc.layers.modes import evaluating, train_only


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_everything_is_in_evaluation_mode_inside_and_as_before_afterwards():
    module = net().train()
    module[0].eval()
    module[2].weight.requires_grad_(False)
    with evaluating(module):
        assert not any(part.training for part in module.modules())
        train_only(module, [module[2].weight])
        assert [p.requires_grad for p in module.parameters()] == [False, False, True, False]
    assert [part.training for part in module.modules()] == [True, False, True, True]
    assert [p.requires_grad for p in module.parameters()] == [True, True, False, True]


def test_a_replaced_module_takes_over_modes_and_flags_and_gradients_are_dropped():
    module = net().train()
    module[0].weight.requires_grad_(False)
    with evaluating(module):
        module[0] = nn.Linear(3, 4).eval()
        module(torch.ones(1, 3)).sum().backward()
    assert module[0].training
    assert not module[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_gradients_of_before_are_neither_added_to_nor_lost():
    module = net()
    module(torch.ones(1, 3)).sum().backward()
    before = {name: (parameter.grad, parameter.grad.clone()) for name, parameter in module.named_parameters()}
    with evaluating(module):
        assert all(parameter.grad is None for parameter in module.parameters())
        module(torch.full((1, 3), 2.0)).sum().backward()
        module[2] = nn.Linear(4, 2)
    for name, parameter in module.named_parameters():
        kept, values = before[name]
        if name.startswith("2."):
            assert parameter.grad is None
        else:
            assert parameter.grad is kept
            assert torch.equal(kept, values)


def test_an_error_inside_puts_everything_back_too():
    module = net().train()
    with pytest.raises(ValueError, match="stop"), evaluating(module):
        raise ValueError("stop")
    assert module.training
