"""Channel statistics of gradients against plain autograd, for modules of torch and for forms."""

import pytest
import torch
from torch import nn

from rcc.calibration.gradients import ChannelGradients, channel_gradients
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.units import find_units

ITEMS = [torch.randn(6, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 4))


def gather(module, items=ITEMS):
    return channel_gradients(module, find_units(module), items, lambda item: module(item).square().sum())


def gradients_of(module, weight, items=ITEMS):
    """∂L/∂W of each item for a tensor that the module computes with, in evaluation mode."""
    module.eval()
    return [torch.autograd.grad(module(item).square().sum(), weight)[0] for item in items]


@pytest.mark.parametrize("index", [0, 3])
def test_statistics_are_the_means_of_autograds_over_the_items(index):
    module = net()
    found = gather(module)[str(index)]
    weight = module[index].weight
    gradients = gradients_of(module, weight)
    torch.testing.assert_close(found.norm, torch.stack([g.norm(dim=1) for g in gradients]).mean(0))
    torch.testing.assert_close(found.squared, torch.stack([g.square().sum(1) for g in gradients]).mean(0))
    expected = torch.stack([(weight * g).sum(1).abs() for g in gradients]).mean(0)
    torch.testing.assert_close(found.sensitivity, expected.detach())


def test_the_sensitivity_of_a_form_is_that_of_its_weight_whatever_holds_it():
    module = net()
    dense = gather(module)["0"]
    weight = module[0].weight.detach().clone()
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    (unit, _) = find_units(module)
    held = [
        Form(left=u * s, right=v, bias=module[0].bias),
        Form(0.3 * weight, 0.7 * u * s, v, bias=module[0].bias),
        Form(sparse=0.5 * weight, scale=torch.full((7,), 2.0), bias=module[0].bias),
    ]
    for form in held:
        unit.write(form)
        torch.testing.assert_close(gather(module)["0"].sensitivity, dense.sensitivity, rtol=1e-4, atol=1e-5)


def test_an_orthonormal_v_of_full_rank_sees_the_whole_gradient():
    module = net()
    dense = gather(module)["0"]
    u, s, v = torch.linalg.svd(module[0].weight.detach(), full_matrices=False)
    find_units(module)[0].write(Form(left=u * s, right=v, bias=module[0].bias))
    torch.testing.assert_close(gather(module)["0"].norm, dense.norm, rtol=1e-4, atol=1e-5)


def test_no_gradient_is_left_and_modes_and_flags_are_as_before():
    module = net().train()
    module[0].bias.requires_grad_(False)
    gather(module)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]
    module(ITEMS[0]).sum().backward()  # the hooks are gone: gradients stay
    assert module[3].weight.grad is not None


def test_gradients_are_dropped_as_they_arrive():
    module = net()
    alive = []
    units = find_units(module)
    handle = module[0].register_full_backward_hook(
        lambda *_: alive.append([unit.name for unit in units if unit.module.weight.grad is not None])
    )
    gather(module, [ITEMS[0].requires_grad_()])
    handle.remove()
    assert alive == [[]]


def test_tied_weights_are_counted_once_with_both_uses():
    module = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 5, bias=False))
    module[2].weight = module[0].weight
    unit = find_units(module)[0]
    found = channel_gradients(module, [unit], ITEMS, lambda item: module(item).square().sum())
    gradients = gradients_of(module, module[0].weight)
    torch.testing.assert_close(found["0"].norm, torch.stack([g.norm(dim=1) for g in gradients]).mean(0))


def test_a_unit_the_loss_does_not_reach_is_named():
    module = net()
    with pytest.raises(WorkError, match="does not depend on 3"):
        channel_gradients(module, find_units(module), ITEMS, lambda item: module[0](item).sum())


def test_a_loss_that_is_not_finite_names_the_batch():
    module = net()
    items = [ITEMS[0], torch.full((2, 5), float("nan"))]
    with pytest.raises(WorkError, match="nan on calibration batch 1"):
        gather(module, items)


def test_one_gradient_gives_its_own_statistics():
    found = ChannelGradients.of(torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]]))
    assert (found.norm.item(), found.squared.item(), found.sensitivity.item()) == (5.0, 25.0, 5.0)
