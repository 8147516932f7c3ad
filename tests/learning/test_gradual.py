"""Gradual sparsity: the cubic, exact counts, values that come back, and a resume to the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.grid import from_grid, to_grid
from rcc.layers.units import find_units
from rcc.learning.callback import Callback
from rcc.learning.gradual import GradualSparsity, remembered_gradient
from rcc.learning.held import Held, held
from rcc.learning.loop import Step
from rcc.learning.trainer import CompressionTrainer

STEPS = 10


class Counts(Callback):
    """Notes the zeros of all matrices after each step."""

    def __init__(self, holding: Held) -> None:
        self.masks = [mask for _, mask in holding.prunable()]
        self.zeros: list[int] = []
        self.seen: list[Tensor] = []

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        self.zeros.append(sum(int(mask.sum()) for mask in self.masks))
        self.seen.append(torch.cat([mask.flatten() for mask in self.masks]).clone())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20, bias=False), nn.Tanh(), nn.Linear(20, 10, bias=False))


def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        yield torch.randn(16, 10, generator=generator), torch.randn(16, 10, generator=generator)


def trainer_of(module: nn.Module, *callbacks: Callback, **more: Any) -> CompressionTrainer:
    options = {"epochs": 2, "learning_rate": 0.05, "warmup": 0, "optimiser": "muon"} | more.pop("options", {})
    return CompressionTrainer(
        module, config=options, loss=lambda batch: (module(batch[0]) - batch[1]).square().mean(),
        callbacks=callbacks, **more,
    )  # fmt: skip


@pytest.mark.parametrize("score", ["gradient", "magnitude"])
def test_the_share_of_zeros_follows_the_cubic_to_exactly_what_was_asked(score: str) -> None:
    module = network()
    with held(module, pruned=find_units(module)) as holding:
        gradual, counts = GradualSparsity(holding, 0.75, score, every=2, until=0.8), Counts(holding)
        trainer_of(module, gradual, counts, ready=lambda: gradual.done).fit(batches, lambda: 0.0, STEPS)
        assert gradual.done
    shares = [0.75 * (1 - (1 - min(step, 16) // 2 * 2 / 16) ** 3) for step in range(1, 21)]
    due = [round(share * 400) if score == "gradient" else 2 * round(share * 200) for share in shares]
    assert counts.zeros == due
    assert sum(int((each.weight == 0).sum()) for each in (module[0], module[2])) == 300
    if score == "magnitude":
        assert [int((each.weight == 0).sum()) for each in (module[0], module[2])] == [150, 150]


def test_values_come_back_before_the_last_choice_and_none_after_it() -> None:
    module = network()
    with held(module, pruned=find_units(module)) as holding:
        gradual, counts = GradualSparsity(holding, 0.6, every=1, until=0.5), Counts(holding)
        trainer_of(module, gradual, counts).fit(batches, lambda: 0.0, STEPS)
    back = [bool((before & ~after).any()) for before, after in zip(counts.seen, counts.seen[1:], strict=False)]
    assert any(back[:9])
    assert not any(back[9:])


def test_zeros_that_were_there_count_and_whole_numbers_stay_on_their_steps() -> None:
    module = network()
    whole = torch.randint(-5, 6, (20, 10), generator=torch.Generator().manual_seed(2), dtype=torch.int8)
    step = torch.full((20,), 0.125)
    unit = find_units(module)[0]
    unit.write(Form(sparse=from_grid(whole, step), sparse_step=step))
    with held(module, pruned=[unit]) as holding:
        gradual = GradualSparsity(holding, 0.05)
        trainer_of(module, gradual).fit(batches, lambda: 0.0, STEPS)
    after = find_units(module)[0].read().sparse
    assert after is not None
    again = to_grid(after.detach(), step)
    assert int(again.abs().max()) <= 5
    assert int((again == 0).sum()) >= int((whole == 0).sum()) > 0.05 * 200
    assert not bool((module[2].weight == 0).any())


def test_a_tied_matrix_is_pruned_once() -> None:
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 8, bias=False))
    module[2].weight = module[0].weight
    with held(module, pruned=find_units(module)) as holding:
        assert len(list(holding.prunable())) == 1
        gradual = GradualSparsity(holding, 0.5)
        data = [(torch.randn(4, 8), torch.randn(4, 8)) for _ in range(STEPS)]
        trainer_of(module, gradual).fit(lambda epoch: data, lambda: 0.0, STEPS)
    assert module[2].weight is module[0].weight
    assert int((module[0].weight == 0).sum()) == 32


class StoppedError(Exception):
    """Stands for the end of a process."""


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step, self.state = step, {}

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        if trainer.global_step == self.step:
            state = trainer.state_dict()
            self.state = {"tensors": {k: v.clone() for k, v in state["tensors"].items()}, "state": state["state"]}
            raise StoppedError


@pytest.mark.parametrize("optimiser", ["adamw", "muon", "sgd", "adafactor"])
@pytest.mark.parametrize("stop", [1, 7, 13, 19])
def test_a_training_stopped_at_any_step_goes_on_to_the_same_zeros_and_bits(optimiser: str, stop: int) -> None:
    def outcome(stop: StopAfter, state: dict[str, Any] | None = None) -> dict[str, Tensor]:
        module = network()
        with held(module, pruned=find_units(module)) as holding:
            gradual = GradualSparsity(holding, 0.7, every=3, until=0.8)
            trainer = trainer_of(module, gradual, stop, ready=lambda: gradual.done, options={"optimiser": optimiser})
            if state is not None:
                trainer.load_state_dict(state)
            trainer.fit(batches, lambda: float(trainer.current_epoch), STEPS)
        return dict(module.state_dict())

    whole, halt = outcome(StopAfter(-1)), StopAfter(stop)
    with pytest.raises(StoppedError):
        outcome(halt)
    again = outcome(StopAfter(-1), halt.state)
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_a_matrix_that_the_loss_does_not_depend_on_is_told() -> None:
    weight = nn.Parameter(torch.randn(3, 4))
    with pytest.raises(WorkError, match=r"matrix \(3, 4\).*the loss does not depend on it"):
        remembered_gradient(torch.optim.AdamW([weight]), weight)
