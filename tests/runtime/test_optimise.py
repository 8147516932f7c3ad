"""A model made fast computes what it did, says how, and is left alone where that cannot be."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.units import find_units
from rcc.models.own.module import ModuleAdapter
from rcc.runtime import choosing, optimise
from rcc.runtime.kernels import STORED
from rcc.runtime.products import has_int8
from rcc.runtime.timing import interleaved

needs_int8 = pytest.mark.skipif(not has_int8(), reason="torch without oneDNN")


class Net(nn.Module):
    """Patches, a norm, two linear layers, one of them called twice, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.norm = nn.LayerNorm(32)
        self.mix = nn.Linear(32, 32)
        self.head = nn.Linear(32, 24, bias=False)
        self.unused = nn.Linear(4, 4)

    def forward(self, images):
        tokens = self.norm(self.patches(images).flatten(2).transpose(1, 2))
        return self.head(self.mix(tokens.tanh()).tanh() + self.mix(tokens)).mean(1)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ModuleAdapter(Net().eval())


@pytest.fixture
def batch():
    return {"images": torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))}


@pytest.fixture
def seconds(monkeypatch):
    """Times that a test sets by kernel instead of measured ones, 1 for all others.

    Unless set, the whole model takes 1 as stored, 0.75 in bfloat16, and 0.5 with what was picked.
    """
    wanted: dict[str, float] = {}
    monkeypatch.setattr(
        choosing, "interleaved", lambda ways, *_, **__: {name: [wanted.get(name, 1.0)] for name in ways}
    )

    models = iter([("bfloat16", 0.75), ("picked", 0.5)] * 2)

    def versions(ways, *_, **__):
        name, usual = next(models)
        return dict(zip(ways, [[1.0], [wanted.get(name, usual)]], strict=True))

    monkeypatch.setattr(optimise, "interleaved", versions)
    return wanted


def kernels_of(plan):
    return {pick.unit: pick.kernel for pick in plan.picks}


def outputs_of(model, batch):
    with torch.no_grad():
        return model.outputs(batch)["output"]


@pytest.mark.parametrize("choice", ["auto", "bf16", pytest.param("int8", marks=needs_int8), "csr"])
def test_the_model_keeps_its_outputs_whatever_is_chosen(model, batch, choice):
    before = outputs_of(model, batch)
    plan = optimise.optimise(model, batch, choice)
    after = outputs_of(model, batch)
    assert (after.float() - before).norm() < 0.05 * before.norm()
    assert plan.cosine > 0.998
    assert plan.centred_cosine > 0.99
    assert {pick.unit for pick in plan.picks} == {"patches", "mix", "head"}
    assert any("unused" in note for note in plan.notes)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize("choice", ["auto", "bf16", pytest.param("int8", marks=needs_int8), "csr"])
def test_a_trained_clip_keeps_its_embeddings(clip_tiny, digits, choice, monkeypatch):
    monkeypatch.setattr(choosing, "interleaved", partial(interleaved, least=1, most=1))
    few = digits.calibration.take(16)
    batch = clip_tiny.prepare(list(few.images), few.texts)
    plan = optimise.optimise(clip_tiny, batch, choice)
    assert plan.cosine > 0.999
    assert plan.centred_cosine > 0.99
    assert torch.isfinite(clip_tiny.encode_image(list(few.images))).all()
    assert torch.isfinite(clip_tiny.encode_text(list(few.texts))).all()


def test_the_fastest_kernel_is_taken_for_every_unit(model, batch, seconds):
    seconds |= {"packed": 0.5, "plain": 0.9}
    plan = optimise.optimise(model, batch)
    assert set(kernels_of(plan).values()) == {"packed"}
    assert plan.dtype == "bfloat16"
    assert plan.speedup == 2


@needs_int8
def test_a_kernel_that_misses_the_bound_gives_way_to_the_next(model, batch, seconds):
    seconds |= {"int8": 0.1, "packed": 0.5}
    assert set(kernels_of(optimise.optimise(deepcopy(model), batch)).values()) == {"int8"}
    plan = optimise.optimise(model, batch, least_layer_cosine=0.999995)
    assert "int8" not in kernels_of(plan).values()


@needs_int8
def test_bounds_are_tightened_until_the_model_keeps_its_outputs(model, batch, seconds):
    seconds |= {"int8": 0.1, "packed": 0.5, "bfloat16": 3.0}
    loose = optimise.optimise(deepcopy(model), batch)
    assert set(kernels_of(loose).values()) == {"int8"}
    plan = optimise.optimise(model, batch, least_cosine=0.999999)
    assert "int8" not in kernels_of(plan).values()
    assert plan.centred_cosine >= 0.999999
    assert any("Only kernels" in note for note in plan.notes)


def test_what_is_not_faster_in_the_end_is_not_kept(model, batch, seconds):
    seconds |= {"packed": 0.5, "picked": 2.0}
    before, layers = outputs_of(model, batch), dict(model.module.named_modules())
    plan = optimise.optimise(model, batch)
    assert torch.equal(outputs_of(model, batch), before)
    assert all(model.module.get_submodule(name) is module for name, module in layers.items())
    assert (plan.dtype, plan.speedup, set(kernels_of(plan).values())) == ("float32", 1.0, {STORED})
    assert any("as long as the model as stored" in note for note in plan.notes)


def test_csr_takes_the_sparse_units_and_says_which_it_left(model, batch):
    model.module.head.weight.data[:, 4:] = 0
    before = outputs_of(model, batch)
    plan = optimise.optimise(model, batch, "csr")
    assert kernels_of(plan) == {"patches": STORED, "mix": STORED, "head": "csr"}
    assert any(note.startswith("2 of 3 units hold no matrix") for note in plan.notes)
    assert torch.allclose(outputs_of(model, batch), before, atol=1e-5)


@needs_int8
def test_int8_runs_units_with_rows_of_zeros_and_low_rank_pairs(model, batch):
    units = {unit.name: unit for unit in find_units(model.module)}
    model.module.mix.weight.data[3] = 0
    units["head"].write(Form(left=torch.randn(24, 8) / 8, right=torch.randn(8, 32) / 8))
    before = outputs_of(model, batch)
    plan = optimise.optimise(model, batch, "int8")
    assert {kernel.split()[0] for kernel in kernels_of(plan).values()} == {"int8"}
    assert (outputs_of(model, batch).float() - before).norm() < 0.05 * before.norm()


@needs_int8
def test_int8_off_the_cpu_is_refused_by_name(batch):
    model = ModuleAdapter(Net().to("meta"))
    with pytest.raises(UserError, match=r"int8 runs on the CPU and the model is on meta"):
        optimise.optimise(model, batch, "int8")


def test_what_is_wrong_with_the_arguments_is_told_at_once(model, batch):
    with pytest.raises(UserError) as caught:
        optimise.optimise(model, batch, "int7", least_cosine=1.5, least_layer_cosine=2)
    assert "Did you mean 'int8'?" in str(caught.value)
    assert len(caught.value.problems) == 3


def test_a_model_that_cannot_run_in_bfloat16_runs_in_its_own_dtype_and_says_so():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    model, batch = ModuleAdapter(net, outputs=lambda batch: {"y": net(batch["x"])}), {"x": torch.randn(4, 8)}
    with pytest.raises(UserError, match="cannot run in bfloat16"):
        optimise.optimise(model, batch, "bf16")
    assert net[0].weight.dtype is torch.float32
    plan = optimise.optimise(model, batch)
    assert plan.dtype == "float32"
    assert any("does not run in bfloat16" in note for note in plan.notes)


class Stubborn(nn.Module):
    """Multiplies by a layer's weight itself, besides calling the layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, images):
        second = self.second(images)
        return second @ self.first.weight.to(second.dtype) + self.first(images)


def test_a_layer_whose_weight_is_read_elsewhere_is_not_silently_replaced(seconds):
    seconds |= {"packed": 0.5, "plain": 0.6, "int8": 0.7, "bfloat16": 3.0}
    net = Stubborn().eval()
    model = ModuleAdapter(net)
    batch = {"images": torch.randn(4, 16)}
    before = outputs_of(model, batch)
    optimise.optimise(model, batch)
    assert torch.allclose(outputs_of(model, batch), before)


def test_tied_layers_share_the_replacement(batch):
    net = Net().eval()
    net.twin = nn.Linear(32, 24, bias=False)
    net.twin.weight = net.head.weight
    model = ModuleAdapter(net)
    optimise.optimise(model, batch, "bf16")
    assert net.twin.weight is net.head.weight
    assert net.twin.weight.dtype is torch.bfloat16
