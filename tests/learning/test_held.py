"""Held forms: whatever an optimiser does, zeros, grids, factors and ties stay; what is saved is what was computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import rcc
from rcc.artifact.vectors import coded
from rcc.cascade.preparation import prepare
from rcc.layers.batch_norm import make_identity_
from rcc.layers.form import MATRICES, Form
from rcc.layers.grid import from_grid, round_vector, to_grid
from rcc.layers.units import Unit, find_units
from rcc.learning.held import held
from rcc.models.own.module import ModuleAdapter

OPTIMISERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.3, momentum=0.9, weight_decay=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.05),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.05, weight_decay=0.5),
}


def quantised(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(-7, 8, shape, generator=generator, dtype=torch.int8)
    step = torch.rand(shape[0], generator=generator) * 0.1 + 0.01
    return from_grid(whole, step), step


def form_of(kind: str, seed: int) -> Form:
    """A form of a layer of 8 outputs and 6 inputs."""
    torch.manual_seed(seed)
    sparse = torch.randn(8, 6) * (torch.rand(8, 6) < 0.4)
    bias = torch.randn(8)
    if kind == "sparse":
        return Form(sparse=sparse, bias=bias)
    if kind == "low rank":
        return Form(left=torch.randn(8, 3) * (torch.rand(8, 3) < 0.6), right=torch.randn(3, 6), bias=bias)
    if kind == "both, scaled":
        return Form(sparse, torch.randn(8, 2), torch.randn(2, 6), torch.rand(8) + 0.5, bias)
    matrix, step = quantised((8, 6), seed)
    return Form(sparse=matrix, bias=bias, sparse_step=step)


def network(form: Form | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    if form is not None:
        find_units(module)[0].write(form)
    return module


def trained(module: nn.Module, optimiser: str, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimise = OPTIMISERS[optimiser](list(module.parameters()))
    for _ in range(steps):
        optimise.zero_grad()
        F.mse_loss(module(torch.randn(16, 6, generator=generator)), torch.randn(16, 3, generator=generator)).backward()
        optimise.step()


def first(module: nn.Module) -> Unit:
    return find_units(module)[0]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["sparse", "low rank", "both, scaled", "quantised"]),
    optimiser=st.sampled_from(sorted(OPTIMISERS)),
    steps=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_the_pattern_and_the_grid_outlive_any_optimiser_and_values_move(
    kind: str, optimiser: str, steps: int, seed: int
) -> None:
    module = network(form_of(kind, seed))
    before = {name: matrix.detach().clone() for name, matrix in first(module).read().matrices()}
    with held(module):
        trained(module, optimiser, steps)
        during = first(module).read()
        x = torch.randn(5, 6)
        outputs = module(x)
    after = first(module).read()
    assert torch.equal(module(x), outputs)
    moved = False
    for name in MATRICES:
        matrix = getattr(after, name)
        if matrix is None:
            assert name not in before
            continue
        assert torch.equal(matrix, getattr(during, name))
        assert not bool(matrix[before[name] == 0].any())
        step = getattr(after, f"{name}_step")
        if step is not None:
            assert to_grid(matrix.detach(), step).abs().max() <= to_grid(before[name], step).abs().max()
        moved |= not torch.equal(matrix, before[name])
    assert moved or kind == "quantised"  # a few steps need not reach the next whole number


def test_small_steps_add_up_in_the_latent_until_a_value_moves_on_its_grid() -> None:
    module = network(form_of("quantised", 3))
    before = first(module).read().sparse
    assert before is not None
    before = before.detach().clone()
    with held(module):
        latent = first(module).module.parametrizations["sparse"].original
        (row, column) = (before == 0).logical_not().nonzero()[0].tolist()
        step = float(first(module).module.sparse_step[row])
        towards_zero = -torch.sign(latent.detach()[row, column])
        seen = []
        for _ in range(12):
            with torch.no_grad():
                latent[row, column] += towards_zero * step / 8
            seen.append(float(first(module).module.sparse.detach()[row, column]))
    assert len({round(value / step) for value in seen}) > 1
    assert seen[0] == float(before[row, column])


def test_gradients_pass_through_the_rounding_but_not_to_zeros_nor_to_latents_beyond_the_grid() -> None:
    whole, step = torch.tensor([[3, 0, -2], [1, 3, 0]], dtype=torch.int8), torch.tensor([0.5, 0.25])
    module = network(Form(sparse=F.pad(from_grid(whole, step), (0, 3, 0, 6)), sparse_step=F.pad(step, (0, 6), value=1)))
    layer, slopes = module[0], torch.arange(1.0, 49.0).view(8, 6)
    with held(module):
        latent = layer.get_parameter("parametrizations.sparse.original")
        with torch.no_grad():
            latent[0, 0], latent[1, 1], latent[1, 0] = 1.74, 0.88, 0.3  # of 0.5: 3.48; of 0.25: 3.52 and 1.2
        assert layer.sparse[:2, :3].tolist() == [[1.5, 0.0, -1.0], [0.25, 0.75, 0.0]]
        (layer.sparse * slopes).sum().backward()
        assert latent.grad is not None
        assert latent.grad[:2, :3].tolist() == [[1.0, 0.0, 3.0], [7.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", ["sparse", "low rank", "quantised"])
def test_a_held_matrix_is_computed_once_in_a_forward(kind: str) -> None:
    module = network(form_of(kind, 5))
    with held(module) as holding:
        calls: list[nn.Module] = []
        for place, name in holding.places:
            keep = place.get_submodule(f"parametrizations.{name}")
            keep.register_forward_hook(lambda keep, *_: calls.append(keep))
        module(torch.randn(4, 6))
        assert len(calls) == len(set(calls)) == len(holding.places) > 0


def test_a_layer_without_zeros_trains_as_ever_and_nothing_is_left_after_release() -> None:
    module, plain = network(), network()
    with held(module) as holding:
        assert holding.places == []
        trained(module, "adam", 3)
    trained(plain, "adam", 3)
    assert torch.equal(module[0].weight, plain[0].weight)
    module = network(form_of("sparse", 0))
    parameters = list(module.parameters())
    with held(module):
        assert {id(each) for each in module.parameters()} == {id(each) for each in parameters}
    assert type(module[0]) is nn.Linear
    assert {id(each) for each in module.parameters()} == {id(each) for each in parameters}


def test_a_held_unit_is_found_read_and_not_written() -> None:
    module = network(form_of("sparse", 0))
    with held(module):
        unit = first(module)
        assert unit.obstacle == ""
        with pytest.raises(ValueError, match="held for training"):
            unit.write(replace(unit.read(), sparse=torch.zeros(8, 6)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


@pytest.mark.parametrize("kind", ["plain", "quantised"])
def test_a_tied_weight_is_trained_once_and_stays_tied(kind: str, tmp_path: Path) -> None:
    module = Tied()
    matrix, step = quantised((6, 6), 1)
    (unit,) = find_units(module)
    unit.write(Form(sparse=matrix, sparse_step=step) if kind == "quantised" else Form(sparse=matrix))
    holding = held(module)
    assert len(list(module.parameters())) == 1
    optimise = torch.optim.AdamW(module.parameters(), 0.05)
    module(torch.randn(4, 6)).square().mean().backward()
    optimise.step()
    (unit,) = find_units(module)
    assert unit.tied == ("two",)
    rcc.save(ModuleAdapter(module), tmp_path / "a", dtype="float32")
    x = torch.randn(3, 6)
    again = Tied()
    rcc.load(tmp_path / "a", skeleton=again)
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)
    holding.release()
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["sparse", "low rank", "both, scaled", "quantised"])
@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
def test_an_artifact_that_was_trained_on_reloads_to_the_same_outputs_and_is_no_larger(
    kind: str, optimiser: str, tmp_path: Path
) -> None:
    rcc.save(ModuleAdapter(network(form_of(kind, 5))), tmp_path / "before", dtype="float32")
    model = rcc.load(tmp_path / "before", skeleton=network(), trainable=True)
    trained(model.module, optimiser, 3)
    rcc.save(model, tmp_path / "after", dtype="float32")
    x = torch.randn(7, 6)
    again = rcc.load(tmp_path / "after", skeleton=network())
    torch.testing.assert_close(again.module(x), model.module(x), rtol=0, atol=0)
    stored = {name: first(each.module).read().nonzeros for name, each in (("after", again), ("during", model))}
    assert stored["after"] <= form_of(kind, 5).nonzeros
    steps = [name for name, _ in first(again.module).read().steps()]
    assert steps == [name for name, _ in form_of(kind, 5).steps()]


class Normed(nn.Module):
    """One norm that can be folded, one that can only be given constant statistics, one that was never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.ahead, self.fresh = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fresh(self.ahead(self.behind(self.conv(x)).relu()).relu())


def test_norms_without_statistics_stay_in_evaluation_and_folded_ones_train_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Normed()
    for norm in (module.behind, module.ahead):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(5, 3, 6, 6)
    model = ModuleAdapter(module).eval()
    assert sorted(prepare(model, [{"x": x}])) == [
        "left_alone", "norms_folded", "norms_made_canonical", "output_change", "values_gone",
    ]  # fmt: skip
    module.ahead.weight.data[0] = 1.5
    rcc.save(model, tmp_path / "before", dtype="float32")
    again = rcc.load(tmp_path / "before", skeleton=Normed(), trainable=True)
    network = again.module.train()
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
    optimiser = torch.optim.AdamW(network.parameters(), 0.1, weight_decay=0.5)
    network(x).square().mean().backward()
    optimiser.step()
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, statistics[name])}
    assert moved == {"fresh.running_mean", "fresh.running_var", "fresh.num_batches_tracked"}
    assert torch.equal(network.behind.weight, module.behind.weight)
    assert not torch.equal(network.ahead.weight, module.ahead.weight)
    assert not network.behind.training
    rcc.save(again, tmp_path / "after", dtype="float32")
    torch.testing.assert_close(
        rcc.load(tmp_path / "after", skeleton=Normed()).module(x), again.eval().module(x), rtol=0, atol=0
    )


def test_norms_that_are_released_follow_their_network_again() -> None:
    module = Normed()
    make_identity_(module.behind)
    with held(module):
        module.train()(torch.randn(4, 3, 6, 6))
        assert (module.behind.training, module.behind.weight.requires_grad) == (False, False)
        assert (module.fresh.training, module.fresh.weight.requires_grad) == (True, True)
    module.train()(torch.randn(4, 3, 6, 6))
    assert (module.behind.training, module.behind.weight.requires_grad) == (True, True)


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rcc.save(ModuleAdapter(network(form_of("quantised", 5))), "artifact", dtype="float32")
    page = Path(rcc.__file__).parents[1] / "docs/fine-tune.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    batches = [(torch.randn(16, 6), torch.randn(16, 3)) for _ in range(3)]
    exec(compile(code, "fine-tune.md", "exec"), {"build": network, "batches": batches, "loss": F.mse_loss})
    assert (tmp_path / "tuned/manifest.json").is_file()


def test_what_is_measured_is_what_an_artifact_keeps_to_the_bit(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3))
    matrix, step = quantised((40, 6), 0)
    step = step.half().float()
    whole = to_grid(matrix, quantised((40, 6), 0)[1])
    bias = round_vector(torch.randn(40), torch.float16)
    find_units(module)[0].write(Form(sparse=from_grid(whole, step), sparse_step=step, bias=bias))
    x = torch.randn(5, 6)
    holding = held(module, storage=torch.float16)
    trained(module, "adam", 4)
    latent = [each.detach().clone() for each in module.parameters()]
    with holding.as_stored():
        outputs = module(x)
        assert coded(module[0].bias.detach().half())[0].startswith("*")
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert all(torch.equal(now, before) for now, before in zip(module.parameters(), latent, strict=True))
    module.load_state_dict(state)
    holding.release()
    rcc.save(ModuleAdapter(module), tmp_path / "artifact", dtype="float16")
    loaded = rcc.load(tmp_path / "artifact", skeleton=nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3)))
    assert torch.equal(loaded.module(x), outputs)


def test_vectors_of_one_value_are_not_trained() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8, bias=False))
    with held(module) as holding:
        assert [parameter.dim() for parameter in holding.trained()] == [2, 1, 2]
