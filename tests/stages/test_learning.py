"""Learning from the dense model: what it gives back, what it leaves as it is, whom it refuses; never worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rcc.errors import UserError, WorkError
from rcc.layers.copying import deep_copy
from rcc.layers.grid import to_grid
from rcc.layers.model import Batch
from rcc.layers.redirect import standing_in
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.quant.quantizer import Quantizer
from rcc.stages.recover import Recovery


def teacher() -> ModuleAdapter:
    torch.manual_seed(0)
    return ModuleAdapter(nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 4)))


@dataclass(frozen=True)
class Drawn:
    """Batches of normal inputs, other ones in each epoch."""

    steps: int = 6
    broken: bool = False

    def __call__(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(self.steps):
            yield {"input": torch.randn(32, 12, generator=generator) * (torch.nan if self.broken else 1)}


def inputs(seed: int = 99) -> Tensor:
    return torch.randn(64, 12, generator=torch.Generator().manual_seed(seed))


def error(model: ModuleAdapter, dense: ModuleAdapter) -> float:
    with torch.no_grad():
        return float((model.module(inputs()) - dense.module(inputs())).square().mean())


def compressed() -> tuple[ModuleAdapter, ModuleAdapter]:
    """A pruned and rounded model, and the dense one."""
    dense = teacher()
    model = ModuleAdapter(deep_copy(dense.module))
    context = StageContext(calibration=[{"input": inputs(3)}], storage=torch.float16)
    DARECompressor(target_sparsity=0.85).apply(model, context)
    Quantizer(bits=4).apply(model, context)
    return model, dense


def context(model: ModuleAdapter, dense: ModuleAdapter, **others: Any) -> StageContext:
    given: dict[str, Any] = {
        "training": lambda batch_size, augmentation, seed: Drawn(),
        "score": lambda: -error(model, dense),
        "dense": lambda: standing_in(dense, model.module),
        "storage": torch.float16,
        "seed": 5,
    }
    return StageContext(**given | others)


def test_it_gives_back_much_of_what_was_lost_and_keeps_zeros_steps_and_what_can_be_stored() -> None:
    model, dense = compressed()
    lost = error(model, dense)
    before = [unit.read() for unit in model.units()]
    zeros = [form.dense().detach() == 0 for form in before]
    report = Recovery(epochs=6, learning_rate=2e-2).apply(model, context(model, dense))
    assert error(model, dense) < 0.5 * lost
    assert set(report.touched) == {"0", "2", "4"}
    assert report.facts["steps"] == 36
    assert len(report.facts["epochs"]) == 6
    assert any(was.sparse_step is not None for was in before)
    for unit, was, empty in zip(model.units(), before, zeros, strict=True):
        form = unit.read()
        matrices, steps = dict(form.matrices()), dict(form.steps())
        for name, step in was.steps():
            assert torch.equal(steps[name], step)
            to_grid(matrices[name].detach(), step)  # raises for a value that is off it
        assert not bool(form.dense()[empty].any())
        assert form.bias is not None
        assert torch.equal(form.bias, form.bias.half().float())


def test_where_no_epoch_is_better_the_model_is_as_it_was_to_the_bit() -> None:
    model, dense = compressed()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    falling = iter(range(0, -100, -1))
    report = Recovery(epochs=2).apply(model, context(model, dense, score=lambda: next(falling)))
    assert report.facts["best_epoch"] == 0
    after = model.module.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():  # what a half cannot hold is not shipped
        assert torch.equal(after[name], tensor) or torch.equal(after[name], tensor.half().float()), name


def test_epochs_of_one_score_are_told_apart_by_the_distance_on_calibration_data() -> None:
    model, dense = compressed()
    batch = {"input": inputs(3)}
    targets = [dense.outputs(batch)]
    given = context(model, dense, score=lambda: 1.0, calibration=[batch], targets=targets)
    report = Recovery(epochs=3, learning_rate=2e-2).apply(model, given)
    scores = [epoch["score"] for epoch in report.facts["epochs"]]
    assert report.facts["best_epoch"] == 1 + scores.index(max(scores))


def test_only_layers_that_are_named_move() -> None:
    model, dense = compressed()
    before = [unit.read().dense().detach().clone() for unit in model.units()]
    rising = iter(range(9))
    given = context(model, dense, score=lambda: float(next(rising)))
    Recovery(epochs=2, learning_rate=2e-2, include=["2"]).apply(model, given)
    same = [torch.equal(unit.read().dense(), was) for unit, was in zip(model.units(), before, strict=True)]
    assert same == [True, False, True]


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    whole, dense = compressed()
    Recovery(epochs=4).apply(whole, context(whole, dense, scratch=tmp_path / "whole"))

    class StopError(Exception):
        pass

    model, dense = compressed()

    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        Recovery(epochs=4).apply(model, context(model, dense, scratch=tmp_path / "cut", progress=stop))
    seen: list[int] = []
    model, dense = compressed()
    Recovery(epochs=4).apply(
        model, context(model, dense, scratch=tmp_path / "cut", progress=lambda done, total, what: seen.append(done))
    )
    assert seen == [3, 4]
    left, right = whole.module.state_dict(), model.module.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_lower() -> None:
    model, dense = compressed()
    broken = context(model, dense, training=lambda *_: Drawn(steps=20, broken=True))
    with pytest.raises(WorkError, match="from the first step on"):
        Recovery(epochs=1).apply(model, broken)


def test_it_is_refused_without_training_data_or_without_a_loss() -> None:
    model, dense = compressed()
    with pytest.raises(UserError, match="learns from training data, and there is none"):
        Recovery().apply(model, context(model, dense, training=None))
    with pytest.raises(UserError, match="every loss counts 0"):
        Recovery(features=0.0, logits=0.0)
    with pytest.raises(UserError, match="nothing for the losses that are weighed, logits"):
        Recovery(features=0.0).apply(model, context(model, dense))
