"""Activation checkpointing in evaluation mode: the same gradients, fewer tensors kept, and a model left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.activation_checkpointing import checkpointed_activations, marked_blocks
from rcc.layers.modes import differentiating


class Block(nn.Module):
    """With a dropout in its own forward, as Whisper's layers have."""

    def __init__(self, marked: bool) -> None:
        super().__init__()
        self.gradient_checkpointing = marked
        self.up, self.down = nn.Linear(4, 16), nn.Linear(16, 4)
        self.calls = 0
        self.caches: list[object] = []

    def forward(self, x: Tensor, shift: float = 0.0, cache: object = None) -> Tensor:
        self.calls += 1
        self.caches.append(cache)
        hidden = F.dropout(F.gelu(self.up(x) + shift), 0.5, training=self.training)
        return x + self.down(hidden)


class Tower(nn.Module):
    def __init__(self, *marks: bool) -> None:
        super().__init__()
        self.gradient_checkpointing = any(marks)  # transformers marks what contains the blocks too
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.blocks = nn.ModuleList(Block(marked) for marked in marks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, shift=0.1, cache="kept")
        return x.square().sum()


@contextmanager
def kept_tensors() -> Iterator[list[int]]:
    """The sizes of what autograd keeps for the backward pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


X = torch.linspace(-1, 1, 12).view(3, 4)


def gradients(tower: Tower) -> tuple[list[Tensor], list[int]]:
    with differentiating(tower):
        with kept_tensors() as sizes:
            loss = tower(X)
        loss.backward()
        return [parameter.grad.clone() for parameter in tower.parameters()], sizes


def test_gradients_are_the_same_bits_and_marked_blocks_keep_their_inputs_alone() -> None:
    plain, marked = Tower(False, False), Tower(True, True)
    (expected, all_of_them), (found, few) = gradients(plain), gradients(marked)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert [block.calls for block in plain.blocks] == [1, 1]
    assert [block.calls for block in marked.blocks] == [2, 2]
    assert 3 * 16 in all_of_them
    assert 3 * 16 not in few
    assert len(few) < len(all_of_them)


def test_only_marked_blocks_are_called_again() -> None:
    tower = Tower(False, True, False)
    gradients(tower)
    assert [block.calls for block in tower.blocks] == [1, 2, 1]
    assert marked_blocks(tower) == [tower.blocks[1]]


def test_dropout_stays_off_even_where_the_block_asks_for_its_own_mode() -> None:
    tower = Tower(True, True).train()
    first, second = gradients(tower)[0], gradients(tower)[0]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert tower.blocks[0].training


def test_without_gradients_it_is_a_plain_call() -> None:
    tower = Tower(True)
    with checkpointed_activations(tower), torch.no_grad():
        tower(X)
    assert (tower.blocks[0].calls, tower.blocks[0].caches) == (1, ["kept"])


def test_a_cache_is_not_given_to_a_block_that_is_called_twice() -> None:
    tower = Tower(True)
    gradients(tower)
    assert tower.blocks[0].caches == [None, None]


def test_afterwards_blocks_have_the_forward_of_before_after_an_error_too() -> None:
    tower = Tower(True, True)
    own = tower.blocks[1].forward
    tower.blocks[1].forward = own
    with checkpointed_activations(tower):
        assert "forward" in vars(tower.blocks[0])
    with pytest.raises(RuntimeError, match="stop"), checkpointed_activations(tower):
        raise RuntimeError("stop")
    assert "forward" not in vars(tower.blocks[0])
    assert vars(tower.blocks[1])["forward"] is own
