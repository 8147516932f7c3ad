"""Scales that learn: identity at the start, gradients, the hand-calculated step, and the structure afterwards."""

import pytest
import torch
from torch import nn
from toys.models import SmallModel, batches

from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormLinear
from rcc.stages.alpha.learned_scales import ScaleLearner, learnable_scales, mean_loss


@pytest.fixture
def model():
    subject = SmallModel()
    subject.module.eval()
    return subject


def units(model):
    return [unit for unit in model.units() if unit.kind != "norm"]


def test_the_start_is_the_identity_to_the_bit(model):
    batch = batches(1)[0]
    before = model.outputs(batch)["features"]
    with learnable_scales(model.module, units(model)) as raws:
        assert isinstance(model.module.conv, FormConv)
        assert isinstance(model.module.hidden, FormLinear)
        assert {name: raw.tolist() for name, raw in raws.items()} == {
            "conv": [0.0] * 12, "hidden": [0.0] * 16, "head": [0.0] * 10,
        }  # fmt: skip
        torch.testing.assert_close(model.outputs(batch)["features"], before, rtol=0, atol=1e-6)


def test_gradients_reach_every_raw_parameter_and_no_other(model):
    with learnable_scales(model.module, units(model)) as raws:
        model.loss(batches(1)[0]).backward()
        assert all(bool((raw.grad != 0).any()) for raw in raws.values())
        others = [p for p in model.module.parameters() if all(p is not raw for raw in raws.values())]
        assert all(parameter.grad is None for parameter in others)


def test_the_gradient_at_the_start_is_half_that_of_the_scale(model):
    # 2 sigmoid has slope 1/2 at 0, and the loss's derivative by a scale at 1 is the sum of w · g in its row.
    model.loss(batches(1)[0]).backward()
    weight = model.module.head.weight
    expected = 0.5 * (weight * weight.grad).sum(1).detach()
    with learnable_scales(model.module, units(model)) as raws:
        model.loss(batches(1)[0]).backward()
        torch.testing.assert_close(raws["head"].grad, expected)


def test_afterwards_structure_weights_flags_and_modes_are_as_before(model):
    model.module.hidden.weight.requires_grad_(False)
    model.module.dropout.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    storage = model.module.head.weight.data_ptr()
    with learnable_scales(model.module, units(model)) as raws:
        with torch.no_grad():
            raws["head"].fill_(1.0)
        assert not model.module.dropout.training
    assert type(model.module.head) is nn.Linear
    assert type(model.module.conv) is nn.Conv2d
    assert model.module.head.weight.data_ptr() == storage  # shared all along, not copied
    after = model.module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    asking = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    assert [name for name, asks in asking.items() if not asks] == ["hidden.weight"]
    assert (model.module.dropout.training, model.module.hidden.training) == (True, False)


def test_an_error_inside_leaves_the_structure_as_it_was(model):
    with pytest.raises(RuntimeError, match="stop"), learnable_scales(model.module, units(model)):
        raise RuntimeError("stop")
    assert type(model.module.head) is nn.Linear
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_low_rank_units_are_scaled_too_and_keep_their_factors(model):
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(16, 2, generator=generator), torch.randn(2, 12, generator=generator)
    model.unit("hidden").write(Form(left=left, right=right, scale=torch.full((16,), 0.5)))
    with learnable_scales(model.module, [model.unit("hidden")]) as raws:
        assert raws["hidden"].tolist() == [0.0] * 16
        torch.testing.assert_close(model.module.hidden.weight, 0.5 * (left @ right))
    form = model.unit("hidden").read()
    assert (form.rank, form.scale) == (2, None)
    torch.testing.assert_close(form.left, 0.5 * left)


def test_tied_weights_learn_one_scale():
    root = nn.Module()
    root.first = nn.Linear(4, 4, bias=False)
    root.second = nn.Linear(4, 4, bias=False)
    root.second.weight = root.first.weight
    from rcc.layers.units import find_units

    with learnable_scales(root, find_units(root)[:1]) as raws:
        assert list(raws) == ["first"]
        with torch.no_grad():
            raws["first"].copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
        assert torch.equal(root.second.scale, root.first.scale)
        assert torch.equal(root.second(torch.eye(4)), root.first(torch.eye(4)))
    assert root.second.weight is root.first.weight
    assert root.second.weight is root.first.weight


def raw(*values):
    return nn.Parameter(torch.tensor(values))


def test_one_step_of_adam_moves_every_raw_by_the_learning_rate_against_its_gradient():
    # Adam's first step is lr · g / (|g| + ε), whatever the size of g.
    subject = raw(0.0, 0.0)
    learner = ScaleLearner(learning_rate=0.1, l2=0.0, clip_norm=1.0, clamp=3.0)
    optimizer = torch.optim.Adam([subject], lr=0.1)
    learner.loop([subject], lambda _: (subject * torch.tensor([5.0, -2.0])).sum(), optimizer).step(None, 1)
    assert subject.tolist() == pytest.approx([-0.1, 0.1])


def test_gradients_are_clipped_to_a_total_norm_of_one():
    # 3-4-0 over two parameters has norm 5: plain descent moves by a fifth of it.
    first, second = raw(0.0, 0.0), raw(0.0)
    learner = ScaleLearner(learning_rate=1.0, l2=0.0, clip_norm=1.0, clamp=3.0)
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    learner.loop([first, second], lambda _: 3 * first[0] + 4 * second[0], optimizer).step(None, 1)
    assert first.tolist() + second.tolist() == pytest.approx([-0.6, 0.0, -0.8], abs=1e-6)


def test_raws_are_clamped_after_the_step():
    subject = raw(2.9, -2.9, 0.0)
    learner = ScaleLearner(learning_rate=1.0, l2=0.0, clip_norm=100.0, clamp=3.0)
    optimizer = torch.optim.SGD([subject], lr=1.0)
    learner.loop([subject], lambda _: (subject * torch.tensor([-1.0, 1.0, 0.5])).sum(), optimizer).step(None, 1)
    assert subject.tolist() == [3.0, -3.0, -0.5]


def test_the_pull_is_two_l2_raw_over_the_width_towards_the_identity_and_none_at_it():
    subject = raw(1.0, -0.5, 0.0)
    learner = ScaleLearner(learning_rate=1.0, l2=0.75, clip_norm=100.0, clamp=3.0)
    optimizer = torch.optim.SGD([subject], lr=1.0)
    learner.loop([subject], lambda _: 0 * subject.sum(), optimizer).step(None, 1)
    assert subject.tolist() == [0.5, -0.25, 0.0]


def test_the_best_epoch_is_kept_and_the_loss_never_ends_above_the_start():
    # A step of 1 from the optimum at 0 can only make it worse.
    subject = raw(0.0)
    learner = ScaleLearner(learning_rate=1.0, l2=0.0, clip_norm=1.0, clamp=3.0)
    targets = [torch.tensor(0.1), torch.tensor(-0.1)]
    found = learner.learn([subject], targets, lambda target: (subject - target).square().sum(), 2)
    assert (subject.item(), found["best_epoch"]) == (0.0, 0)
    assert found["loss_after"] == found["loss_before"] == pytest.approx(0.01)
    assert len(found["losses"]) == 3


def test_learning_lowers_the_loss_and_the_same_generator_gives_the_same_bits():
    def learn():
        subject = raw(0.0, 0.0)
        learner = ScaleLearner(learning_rate=0.1, l2=0.001, clip_norm=1.0, clamp=3.0)
        targets = [torch.tensor([1.0, 0.5]), torch.tensor([0.8, 0.4]), torch.tensor([0.9, 0.6])]
        found = learner.learn(
            [subject], targets, lambda target: (subject - target).square().sum(), 5, torch.Generator().manual_seed(3)
        )
        return subject, found

    (first, found), (second, again) = learn(), learn()
    assert torch.equal(first, second)
    assert found == again
    assert found["loss_after"] < 0.5 * found["loss_before"]
    assert found["losses"][found["best_epoch"]] == found["loss_after"] == min(found["losses"])


def test_progress_counts_every_step():
    told = []
    subject = raw(0.0)
    ScaleLearner(0.1, 0.0, 1.0, 3.0).learn(
        [subject], [1, 2], lambda item: subject.square().sum(), 2, progress=lambda *call: told.append(call)
    )
    assert [call[:2] for call in told] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_loss_that_is_not_finite_is_an_error_naming_the_batch():
    with pytest.raises(WorkError, match="nan on calibration batch 1"):
        mean_loss([1.0, float("nan")], torch.tensor)
