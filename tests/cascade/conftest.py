"""A small trained classifier and a validator for it."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rcc.measurement import Measurement, Metric
from rcc.models.own.module import ModuleAdapter


@pytest.fixture(scope="session")
def points():
    """300 points in three clusters that a small network separates without an error."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    centres = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0, 0], [0, 0, 2.0, 0, 0, 0]])
    return centres[labels] + 0.3 * torch.randn(300, 6, generator=generator), labels


@pytest.fixture(scope="session")
def trained_state(points):
    torch.manual_seed(0)
    module = network()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(points[0]), points[1]).backward()
        optimiser.step()
    return module.state_dict()


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.fixture
def model(trained_state):
    module = network()
    module.load_state_dict(trained_state)
    return ModuleAdapter(module, outputs=lambda batch: {"logits": module(batch["input"])})


@pytest.fixture
def validator(points):
    def accuracy(adapter):
        right = adapter.module(points[0]).argmax(1).eq(points[1]).float().mean().item()
        return Measurement((Metric("accuracy", right, "fraction"),), "accuracy", "selection", 300)

    return accuracy


@pytest.fixture
def net(trained_state):
    module = network()
    module.load_state_dict(trained_state)
    return module


@pytest.fixture
def loader(points):
    return DataLoader(TensorDataset(*points), batch_size=32)
