"""The stage: which units it rounds and to how many bits, what it leaves, what it reports, and what is written."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rcc
from rcc.artifact.size import model_size
from rcc.artifact.write import write_artifact
from rcc.cascade.plan import plan_run
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.grid import to_grid
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear
from rcc.layers.units import Unit
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.layerwise import UNREACHED
from rcc.stages.quant.quantizer import Quantizer


class Net(nn.Module):
    """Tokens through a table and two linear layers, images through two convolutions; `idle` never runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tokens = nn.Embedding(13, 10)
        self.norm = nn.LayerNorm(10)
        self.hidden = nn.Linear(10, 16)
        self.head = nn.Linear(16, 5)
        self.conv = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.idle = nn.Linear(9, 9)

    def forward(self, tokens: Tensor, images: Tensor) -> dict[str, Tensor]:
        text = self.head(torch.tanh(self.hidden(self.norm(self.tokens(tokens)))))
        return {"text": text, "image": self.grouped(self.conv(images).relu())}


NAMES = ("tokens", "hidden", "head", "conv", "grouped", "idle")


def batches(count: int = 3, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "tokens": torch.randint(13, (8, 6), generator=generator),
            "images": torch.randn(8, 3, 7, 7, generator=generator),
        }
        for _ in range(count)
    ]


@pytest.fixture
def model() -> ModuleAdapter:
    return ModuleAdapter(Net().eval())


def context(storage: torch.dtype = torch.float16) -> StageContext:
    return StageContext(calibration=batches(), storage=storage)


def unit(model: ModuleAdapter, name: str) -> Unit:
    return next(unit for unit in model.units() if unit.name == name)


def whole(model: ModuleAdapter, name: str) -> dict[str, Tensor]:
    """The whole numbers of each quantised matrix of a unit."""
    form = unit(model, name).read()
    return {matrix: to_grid(getattr(form, matrix).detach(), step) for matrix, step in form.steps()}


@pytest.mark.parametrize("rounding", ["feedback", "nearest"])
@pytest.mark.parametrize(("bits", "most"), [(2, 1), (3, 3), (4, 7), (5, 15), (6, 31), (7, 63), (8, 127)])
def test_values_are_whole_numbers_of_so_many_bits_and_embeddings_of_theirs(model, rounding, bits, most) -> None:
    report = Quantizer(bits, 3, rounding).apply(model, context())
    assert set(report.touched) == set(NAMES)
    for name in NAMES:
        limit = 3 if name == "tokens" else most
        assert int(whole(model, name)["sparse"].abs().max()) <= limit
        assert report.touched[name]["bits"] == (3 if name == "tokens" else bits)
        step = unit(model, name).read().sparse_step
        assert torch.equal(step.half().float(), step)
    for name, kind in (("tokens", FormEmbedding), ("conv", FormConv), ("hidden", FormLinear)):
        assert isinstance(unit(model, name).module, kind)


def test_norms_and_biases_stay_and_the_norm_says_why(model) -> None:
    before = copy.deepcopy(model.module.state_dict())
    report = Quantizer(rounding="nearest", include=["*"], vector_bits=None).apply(model, context())
    after = model.module.state_dict()
    for name, tensor in before.items():
        if name.startswith("norm") or name.endswith("bias"):
            assert torch.equal(tensor, after[name])
    assert [(skipped.name, "no quantisation steps" in skipped.reason) for skipped in report.skipped] == [("norm", True)]


def test_the_roles_asked_for_replace_the_default(model) -> None:
    assert set(Quantizer(rounding="nearest", roles=["linear"]).apply(model, context()).touched) == {
        "hidden", "head", "idle"
    }  # fmt: skip


def test_feedback_brings_the_outputs_nearer_to_the_dense_ones_than_plain_rounding() -> None:
    dense = ModuleAdapter(Net().eval())
    errors = {}
    for rounding in ("feedback", "nearest"):
        model = ModuleAdapter(Net().eval())
        Quantizer(3, 8, rounding).apply(model, context())
        with torch.no_grad():
            errors[rounding] = sum(
                float((model.outputs(batch)["text"] - dense.outputs(batch)["text"]).square().sum())
                for batch in batches(seed=50)
            )
    assert errors["feedback"] < 0.6 * errors["nearest"]


def test_feedback_settles_the_bias_on_the_mean_of_the_dense_outputs(model) -> None:
    dense = ModuleAdapter(copy.deepcopy(model.module))
    report = Quantizer(2, 2, vector_bits=None).apply(model, context())
    wanted, found = (
        torch.cat([one.outputs(batch)["text"].flatten(0, 1) for batch in batches()]).mean(0) for one in (dense, model)
    )
    assert torch.allclose(wanted, found, atol=1e-5)
    assert report.touched["head"]["output_error"] > 0


def test_the_error_reported_is_that_of_the_layers_outputs(model) -> None:
    """The first layer sees what the dense one sees, so its error can be recomputed from its outputs alone."""
    images = torch.cat([batch["images"] for batch in batches()])
    with torch.no_grad():
        wanted = model.module.conv(images).movedim(1, -1).flatten(0, -2).double()
        report = Quantizer(4, 4).apply(model, context())
        found = model.module.conv(images).movedim(1, -1).flatten(0, -2).double()
    energy = (wanted - wanted.mean(0)).square().mean(0).sum()
    error = (wanted - found).square().mean(0).sum() / energy
    assert report.touched["conv"]["output_error"] == pytest.approx(float(error), rel=1e-3)
    assert report.touched["conv"]["output_error_before"] == pytest.approx(0, abs=1e-5)


def test_units_without_a_site_are_rounded_to_nearest_and_say_why(model) -> None:
    plain = ModuleAdapter(copy.deepcopy(model.module))
    fed = Quantizer(4, 4).apply(model, context())
    Quantizer(4, 4, "nearest").apply(plain, context())
    for name in ("tokens", "idle"):
        assert torch.equal(whole(model, name)["sparse"], whole(plain, name)["sparse"])
        assert "output_error" not in fed.touched[name]
    assert fed.touched["idle"]["note"] == f"rounded to nearest: {UNREACHED}"
    assert "note" not in fed.touched["tokens"]
    assert "output_error" in fed.touched["grouped"]


def test_an_input_that_never_fires_is_rounded_to_nearest_without_a_nan(model) -> None:
    dark = [{**batch, "images": torch.zeros_like(batch["images"])} for batch in batches()]
    report = Quantizer(4, 4).apply(model, StageContext(calibration=dark, storage=torch.float16))
    assert report.touched["conv"]["note"].startswith("rounded to nearest: no calibration batch reached it")
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.module.parameters())


def test_inputs_that_never_vary_are_left_to_the_bias(model) -> None:
    tokens = torch.ones(8, 6, dtype=torch.long)
    alike = [{**batch, "tokens": tokens} for batch in batches()]
    report = Quantizer(4, vector_bits=None).apply(model, StageContext(calibration=alike, storage=torch.float16))
    assert "the same in every row" in report.touched["hidden"]["note"]
    assert float(unit(model, "hidden").read().dense().detach().abs().max()) < 1
    torch.testing.assert_close(model.outputs(alike[0])["text"], Net().eval()(**alike[0])["text"], rtol=1e-5, atol=1e-5)


def test_pruned_factors_stay_pruned_and_each_takes_steps(model) -> None:
    hidden = unit(model, "hidden")
    weight = hidden.read()
    left, right = torch.randn(16, 6), torch.randn(6, 10)
    left[left.abs() < 0.5], right[right.abs() < 0.5] = 0, 0
    hidden.write(Form(left=left, right=right, scale=torch.rand(16) - 0.5, bias=weight.bias))
    report = Quantizer(4).apply(model, context())
    form = hidden.read()
    assert form.scale is None
    assert {name: len(step) for name, step in form.steps()} == {"left": 16, "right": 6}
    assert not bool(form.left[left == 0].any())
    assert not bool(form.right[right == 0].any())
    assert report.touched["hidden"]["steps"] == 22


def test_rows_of_zeros_take_a_step_and_a_layer_of_zeros_is_left(model) -> None:
    with torch.no_grad():
        model.module.hidden.weight[3] = 0
        model.module.head.weight.zero_()
    report = Quantizer(8).apply(model, context())
    form = unit(model, "hidden").read()
    assert float(form.sparse_step[3]) == 1
    assert not bool(form.sparse[3].any())
    assert bool(torch.isfinite(form.dense()).all())
    assert [(skipped.name, skipped.reason) for skipped in report.skipped if skipped.name == "head"] == [
        ("head", "with a step a row its values would take no fewer bytes")
    ]
    assert isinstance(model.module.head, nn.Linear)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_again_changes_nothing(model, bits) -> None:
    stage = Quantizer(bits, bits, "nearest")
    stage.apply(model, context())
    before = copy.deepcopy(model.module.state_dict())
    stage.apply(model, context())
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_inputs_give_the_same_bits() -> None:
    states = []
    for _ in range(2):
        model = ModuleAdapter(Net().eval())
        Quantizer(3).apply(model, context())
        states.append(model.module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rounding", ["feedback", "nearest"])
def test_the_artifact_keeps_the_values_bit_for_bit(model, storage, rounding, tmp_path: Path) -> None:
    Quantizer(5, 3, rounding).apply(model, context(storage))
    write_artifact(model, tmp_path / "artifact", dtype=str(storage).removeprefix("torch."))
    loaded = rcc.load(tmp_path / "artifact", skeleton=Net())
    for name in NAMES:
        before, after = unit(model, name).read(), unit(loaded, name).read()
        assert torch.equal(before.sparse, after.sparse)
        assert torch.equal(before.sparse_step, after.sparse_step)


def test_the_plan_counts_a_byte_a_value_and_the_steps(model) -> None:
    stage = Quantizer(8, rounding="nearest").labelled("quant")
    plan = plan_run(model, [stage], Schedule(), torch.float16)
    planned = {unit.name: unit for unit in plan.steps[0].after}
    assert planned["hidden"].nbytes(2) == 160 + 2 * 16
    assert planned["tokens"].note == "4 bits a value, a byte before entropy coding"
    assert plan.steps[0].changed == len(NAMES)
    stage.apply(model, context())
    actual = model_size(model, torch.float16, "none").nbytes
    # Rounding makes a few zeros, which may be left out, and numbers of 4 bits may be packed.
    assert actual <= plan.steps[0].nbytes <= actual * 1.1
    assert UnitPlan.of(unit(model, "hidden")).nbytes(2) <= planned["hidden"].nbytes(2)


def test_the_report_adds_up_bytes_and_errors(model) -> None:
    report = Quantizer(4).apply(model, context())
    touched = report.touched.values()
    assert report.facts["quantised"] == len(NAMES)
    for name in ("steps", "bytes_before", "bytes_after"):
        assert report.facts[name] == sum(facts[name] for facts in touched)
    errors = [facts["output_error"] for facts in touched if "output_error" in facts]
    assert len(errors) == 4
    assert report.facts["mean_output_error"] == pytest.approx(sum(errors) / 4)
    assert report.touched["hidden"]["bytes_before"] == 320
    assert report.touched["hidden"]["bytes_after"] <= 160 + 32


def test_feedback_without_calibration_data_is_refused_before_anything_changes(model) -> None:
    before = copy.deepcopy(model.module.state_dict())
    with pytest.raises(UserError, match=r"stage 'quant': rounding=feedback .* rounding=nearest"):
        Quantizer().apply(model, StageContext())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    assert Quantizer().needs_calibration
    assert not Quantizer(rounding="nearest").needs_calibration


def test_wrong_options_are_refused_together() -> None:
    with pytest.raises(UserError) as error:
        Quantizer(bits=9, embedding_bits=True, rounding="nearst", clip="max")
    assert len(error.value.problems) == 4
    assert "Did you mean 'nearest'?" in str(error.value)
    for bits in (1, 0, 4.0, "8"):
        with pytest.raises(UserError, match="whole number from 2 to 8"):
            Quantizer(bits=bits)  # type: ignore[arg-type]


def test_it_has_no_strength_to_change() -> None:
    assert Quantizer().strength is None
    with pytest.raises(UserError, match="no strength"):
        Quantizer().at(0.5)
