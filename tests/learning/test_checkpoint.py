"""The file of a checkpoint: round trips, and what is refused before anything changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rcc.errors import UserError
from rcc.learning.checkpoint import (
    load_optimiser,
    optimiser_tensors,
    read_checkpoint,
    read_training,
    tensors_of,
    write_checkpoint,
    write_training,
)
from rcc.learning.optimisers import OPTIMISERS, optimiser_for


def stepped(name: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    optimiser = optimiser_for(module, name)
    for _ in range(2):
        optimiser.zero_grad()
        module(torch.arange(5)).square().sum().backward()
        optimiser.step()
    return module, optimiser


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_goes_on_from_named_tensors_to_the_same_bits(name: str, tmp_path: Path) -> None:
    module, optimiser = stepped(name)
    write_checkpoint(tmp_path / "x.safetensors", optimiser_tensors(optimiser, module), {"a": [1.5, None]})
    tensors, state = read_checkpoint(tmp_path / "x.safetensors")
    assert state["a"] == [1.5, None]
    other = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    other.load_state_dict(module.state_dict())
    fresh = optimiser_for(other, name)
    load_optimiser(fresh, other, tensors)
    for each, by in ((module, optimiser), (other, fresh)):
        by.zero_grad()
        each(torch.arange(5)).square().sum().backward()
        by.step()
    assert all(torch.equal(one, two) for one, two in zip(module.parameters(), other.parameters(), strict=True))


def test_the_state_of_another_optimiser_shape_or_parameter_is_refused() -> None:
    module, optimiser = stepped("adamw")
    tensors = optimiser_tensors(optimiser, module)
    with pytest.raises(UserError, match=r"state of '0.weight' is exp_avg, exp_avg_sq, step, which SGD never has"):
        load_optimiser(optimiser_for(module, "sgd"), module, tensors)
    with pytest.raises(UserError, match=r"'1.bias.exp_avg' has the shape \(1,\), not \(3,\)"):
        load_optimiser(optimiser_for(module, "adamw"), module, {**tensors, "1.bias.exp_avg": torch.zeros(1)})
    with pytest.raises(UserError, match=r"of other parameters too: 2\.bias"):
        load_optimiser(optimiser_for(module, "adamw"), module, {**tensors, "2.bias.step": torch.zeros(1)})


def test_a_tied_parameter_is_kept_once() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight
    assert list(tensors_of(module)) == ["0.weight"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_what_is_no_checkpoint_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"last.safetensors (cannot be read as a|is no) checkpoint"):
        read_checkpoint(tmp_path / "last.safetensors")


def test_the_best_is_written_once_and_what_it_replaces_is_removed(tmp_path: Path) -> None:
    def state(epoch: int | None) -> dict:
        tensors = {"model.w": torch.ones(2), **({"best.w": torch.full((2,), float(epoch))} if epoch else {})}
        return {"tensors": tensors, "state": {"best": [epoch, 0.5]}}

    def files() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    write_training(tmp_path, state(None))
    assert files() == ["last.safetensors"]
    write_training(tmp_path, state(1))
    write_training(tmp_path, state(3))
    assert files() == ["best-3.safetensors", "last.safetensors"]
    (tmp_path / "best-4.safetensors").write_bytes(b"of a future that was cut off")
    read = read_training(tmp_path)
    assert files() == ["best-3.safetensors", "last.safetensors"]
    assert read["tensors"]["best.w"].tolist() == [3.0, 3.0]
