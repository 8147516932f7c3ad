"""Distillation: each loss against its formula by other means, what a model gives nothing for, and who is trained."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from torch import Tensor, nn

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.learning.distillation import (
    Distillation,
    KnowledgeDistillationLoss,
    Weights,
    attention_distance,
    compute_distillation_loss,
    kl_divergence,
    relative_error,
    repeated_blocks,
    setup_teacher_student,
)
from rcc.models.own.module import ModuleAdapter

ALONE = {"features": 0.0, "logits": 0.0}


def scores(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_that_of_softened_scores_times_the_square_of_the_temperature(temperature: float) -> None:
    student, teacher = scores(0, 5, 7), scores(1, 5, 7)
    p, q = (softmax(each.double().numpy() / temperature, axis=-1) for each in (teacher, student))
    wanted = temperature**2 * rel_entr(p, q).sum(-1).mean()
    assert float(kl_divergence(student, teacher, temperature)) == pytest.approx(wanted, rel=1e-5)
    assert KnowledgeDistillationLoss(temperature)(student, teacher) == compute_distillation_loss(
        student, teacher, temperature
    )


def test_kl_counts_every_token_alike_and_is_zero_for_the_teacher_itself() -> None:
    student, teacher = scores(0, 2, 3, 7), scores(1, 2, 3, 7)
    each = [kl_divergence(student[i, j], teacher[i, j], 2.0) for i in range(2) for j in range(3)]
    assert float(kl_divergence(student, teacher, 2.0)) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)
    assert float(kl_divergence(teacher, teacher, 2.0)) == 0.0


def test_the_gradient_of_the_kl_hardly_depends_on_the_temperature() -> None:
    def size(temperature: float) -> float:
        student = (0.01 * scores(0, 8, 10)).requires_grad_()
        kl_divergence(student, 0.01 * scores(1, 8, 10), temperature).backward()
        assert student.grad is not None
        return float(student.grad.norm())

    assert size(8.0) == pytest.approx(size(2.0), rel=0.01)


def test_relative_error_of_embeddings_of_length_1_is_two_minus_twice_their_cosine() -> None:
    student, teacher = (F.normalize(scores(seed, 6, 16), dim=-1) for seed in (0, 1))
    cosines = F.cosine_similarity(student, teacher).mean()
    assert float(relative_error(student, teacher)) == pytest.approx(2 - 2 * float(cosines), rel=1e-5)


def test_attention_is_where_values_are_large_whatever_their_size_and_sign() -> None:
    maps = scores(0, 4, 9, 16)
    assert float(attention_distance(-3 * maps, maps)) == pytest.approx(0.0, abs=1e-6)
    channels = maps.transpose(1, 2).reshape(4, 16, 3, 3)
    other = scores(1, 4, 9, 16)
    as_images = attention_distance(channels, other.transpose(1, 2).reshape(4, 16, 3, 3))
    assert float(as_images) == pytest.approx(float(attention_distance(maps, other)), rel=1e-5)


class Towers(nn.Module):
    """Embeddings of two inputs, and the scale of their cosines."""

    def __init__(self, scaled: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Linear(5, 4)
        if scaled:
            self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "image_embeds": F.normalize(self.image(x), dim=-1),
            "text_embeds": F.normalize(self.text(y), dim=-1),
        }


def towers(scaled: bool = True) -> tuple[ModuleAdapter, ModuleAdapter, Batch]:
    """A teacher, a student whose image tower differs, and a batch of four pairs of two classes."""
    teacher, student = ModuleAdapter(Towers(scaled)), ModuleAdapter(Towers(scaled))
    with torch.no_grad():
        student.module.image.weight.add_(0.3 * scores(5, 4, 6))
    batch = {"x": scores(1, 4, 6), "y": scores(2, 4, 5), "labels": torch.tensor([0, 1, 0, 1])}
    return teacher, student, batch


def test_two_towers_are_compared_by_their_embeddings_and_by_their_similarities_both_ways() -> None:
    teacher, student, batch = towers()
    inputs = {name: batch[name] for name in ("x", "y")}
    found, target = student.outputs(inputs), teacher.outputs(inputs)
    features = Distillation(student, teacher, Weights(logits=0.0))(batch)
    errors = [relative_error(found[name], target[name]) for name in ("image_embeds", "text_embeds")]
    assert errors[1].item() == 0.0
    assert features.item() == pytest.approx(errors[0].item() / 2, rel=1e-6)
    own, theirs = (torch.e**2 * each["image_embeds"] @ each["text_embeds"].T for each in (found, target))
    wanted = (kl_divergence(own, theirs, 2.0) + kl_divergence(own.T, theirs.T, 2.0)) / 2
    assert float(Distillation(student, teacher, Weights(features=0.0))(batch)) == pytest.approx(float(wanted), rel=1e-5)


def test_interactive_takes_pairs_of_one_label_for_right_answers() -> None:
    teacher, student, batch = towers(scaled=False)
    found, target = (model.outputs({name: batch[name] for name in ("x", "y")}) for model in (student, teacher))
    wanted = torch.zeros(())
    for own, theirs in (("image_embeds", "text_embeds"), ("text_embeds", "image_embeds")):
        logs = F.log_softmax(found[own] @ target[theirs].T, -1)
        wanted -= sum(logs[i, j] for i in range(4) for j in range(4) if i % 2 == j % 2) / 2 / 4 / 2
    loss = Distillation(student, teacher, Weights(**ALONE, interactive=1.0))(batch)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


class Deep(nn.Module):
    """Three blocks of one class, and scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(x.mean(1))}


def test_blocks_are_compared_one_by_one_and_forgotten_afterwards() -> None:
    teacher = ModuleAdapter(Deep())
    student = ModuleAdapter(copy.deepcopy(teacher.module))
    blocks = repeated_blocks(student.module)
    assert blocks == list(student.module.blocks)
    with torch.no_grad():
        blocks[2][0].bias.add_(1.0)
    x = scores(0, 2, 5, 4)
    kept: list[Tensor] = []
    handle = blocks[2].register_forward_hook(lambda module, arguments, output: kept.append(output))
    loss = Distillation(student, teacher, Weights(**ALONE, hidden=3.0))({"x": x})
    handle.remove()
    last = teacher.module.blocks[2](teacher.module.blocks[1](teacher.module.blocks[0](x)))
    assert float(loss) == pytest.approx(float(relative_error(kept[0], last)), rel=1e-5)
    assert not any(block._forward_hooks for block in [*blocks, *repeated_blocks(teacher.module)])


def test_only_the_student_learns_and_labels_are_no_input() -> None:
    teacher, student, batch = towers()
    Distillation(student, teacher, Weights(interactive=1.0))(batch).backward()
    assert all(parameter.grad is None for parameter in teacher.module.parameters())
    assert all(parameter.grad is not None for parameter in student.module.parameters())


def test_losses_that_a_model_gives_nothing_for_are_named_and_refused_where_none_is_left() -> None:
    teacher, student, batch = towers()
    loss = Distillation(student, teacher, Weights(hidden=1.0))
    loss(batch)
    assert loss.without_effect == ["hidden"]
    with pytest.raises(UserError, match="nothing for the losses that are weighed, hidden, attention"):
        Distillation(student, teacher, Weights(**ALONE, hidden=1.0, attention=1.0))(batch)


def test_a_teacher_is_frozen_in_evaluation_mode_and_its_student_learns() -> None:
    teacher, student = setup_teacher_student(nn.Linear(2, 2), nn.Linear(2, 2).eval())
    assert (teacher.training, student.training) == (False, True)
    assert [parameter.requires_grad for parameter in (*teacher.parameters(), *student.parameters())] == [
        False, False, True, True,
    ]  # fmt: skip


def test_a_temperature_must_be_above_zero() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        KnowledgeDistillationLoss(0)
