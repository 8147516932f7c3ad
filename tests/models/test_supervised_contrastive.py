"""The supervised contrastive loss against its formula written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rcc.errors import UserError
from rcc.models.supervised_contrastive import supervised_contrastive_loss


def test_it_is_the_formula_of_the_paper() -> None:
    z = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels, temperature, terms = [0, 1, 0, 0, 1, 2], 0.2, []
    for i in range(6):
        positives = [p for p in range(6) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in range(6) if a != i)
        logs = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / below) for p in positives]
        terms += [-sum(logs) / len(logs)] if logs else []
    found = supervised_contrastive_loss(z, torch.tensor(labels), temperature)
    assert float(found) == pytest.approx(sum(terms) / len(terms), abs=1e-6)
    assert len(terms) == 5


def test_classes_apart_cost_less_than_classes_mixed() -> None:
    z = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    apart, mixed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert supervised_contrastive_loss(z, apart) < supervised_contrastive_loss(z, mixed)


def test_a_batch_without_two_of_a_class_is_refused() -> None:
    with pytest.raises(UserError, match="needs two items of one class"):
        supervised_contrastive_loss(torch.eye(3), torch.arange(3))
