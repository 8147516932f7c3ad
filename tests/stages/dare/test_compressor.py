"""DARECompressor: exact counts wherever values are stored, agreement with torch.nn.utils.prune, true DARE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import prune as peer

from rcc.errors import UserError
from rcc.layers.encoding import encoded_bytes
from rcc.layers.form import Form
from rcc.layers.units import Unit, find_units
from rcc.ops.prune import least_squares_factor
from rcc.stages.base import StageContext, UnitPlan
from rcc.stages.dare.compressor import DARECompressor

TOWERS = ("vision", "text")


class Model:
    """Two towers: a convolution and two linear layers in one, two linear layers in the other."""

    default_roles = ("linear", "conv")

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(seed)
        self.module = nn.ModuleDict(
            {
                "vision": nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(), nn.Linear(32, 20), nn.Linear(20, 10)),
                "text": nn.Sequential(nn.Linear(16, 24), nn.LayerNorm(24), nn.Linear(24, 10)),
            }
        ).to(dtype)

    def units(self) -> list[Unit]:
        return find_units(self.module)

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"image": self.module["vision"](batch["images"]), "text": self.module["text"](batch["texts"])}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        outputs = self.outputs(batch)
        return (outputs["image"] - outputs["text"]).square().mean()

    def unit(self, name: str) -> Unit:
        return next(unit for unit in self.units() if unit.name == name)

    def pruned_units(self) -> list[Unit]:
        return [unit for unit in self.units() if unit.kind in self.default_roles]

    def weights(self) -> dict[str, Tensor]:
        return {unit.name: unit.read().dense().detach().clone() for unit in self.pruned_units()}

    def batch(self, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.randn(16, 16, generator=generator)
        return {
            "images": torch.randn(8, 3, 8, 8, generator=generator).cumsum(3),
            "texts": torch.randn(8, 16, generator=generator) @ mixing,
        }


def zeros(unit: Unit) -> int:
    return unit.read().stored - unit.read().nonzeros


def bits(model: Model) -> dict[str, bytes]:
    return {key: tensor.view(torch.uint8).numpy().tobytes() for key, tensor in model.module.state_dict().items()}


def factorise(unit: Unit, rank: int) -> None:
    """Replace the unit's weight by a rank-r pair, as a low-rank stage would."""
    left, values, right = torch.linalg.svd(unit.read().dense().detach(), full_matrices=False)
    root = values[:rank].sqrt()
    unit.write(Form(left=left[:, :rank] * root, right=root[:, None] * right[:rank], bias=unit.read().bias))


# ---- exact counts


@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_every_layer_gets_its_exact_count(target: float, dtype: torch.dtype, score: str) -> None:
    model = Model(dtype=dtype)
    before = model.weights()
    report = DARECompressor(target, score=score).apply(model, StageContext(seed=3))
    for unit in model.pruned_units():
        weight = unit.read().dense()
        assert zeros(unit) == round(target * unit.numel)
        assert weight.dtype == dtype
        assert not bool(torch.signbit(weight[weight == 0]).any())
        assert torch.equal(weight[weight != 0], before[unit.name][weight != 0])
        assert report.touched[unit.name]["nonzeros"] == unit.numel - round(target * unit.numel)


@pytest.mark.parametrize("scope", ["tower", "global"])
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_a_shared_budget_is_exact_in_all(scope: str, score: str) -> None:
    model = Model()
    DARECompressor(0.77, scope=scope, score=score).apply(model, StageContext())
    units = model.pruned_units()
    pools = [units] if scope == "global" else [[u for u in units if u.tower == tower] for tower in TOWERS]
    for pool in pools:
        assert sum(map(zeros, pool)) == round(0.77 * sum(unit.numel for unit in pool))


@pytest.mark.parametrize("scope", ["layer", "tower"])
def test_importance_allocation_keeps_the_exact_total_and_lowers_the_sum_of_relative_errors(scope: str) -> None:
    errors = {}
    for allocation in ("uniform", "importance"):
        model = Model()
        with torch.no_grad():
            model.module["text"][0].weight.pow_(5)  # heavy tails: much of this layer costs nothing
        before = model.weights()
        DARECompressor(0.6, scope=scope, allocation=allocation).apply(model, StageContext())
        after, units = model.weights(), model.pruned_units()
        pools = [[u] for u in units] if scope == "layer" else [[u for u in units if u.tower == t] for t in TOWERS]
        errors[allocation] = sum(
            sum(float((after[u.name] - before[u.name]).square().sum()) for u in pool)
            / sum(float(before[u.name].square().sum()) for u in pool)
            for pool in pools
        )
        total = sum(unit.numel for unit in units)
        if allocation == "importance":
            assert sum(map(zeros, units)) == round(0.6 * total)
    assert errors["importance"] < errors["uniform"]


@given(
    target=st.floats(0, 0.99),
    steps=st.integers(1, 5),
    kinds=st.integers(1, 4),
    scope=st.sampled_from(["layer", "tower", "global"]),
    schedule=st.sampled_from(["linear", "exponential", "cosine", "polynomial", "cubic_late"]),
    score=st.sampled_from(["magnitude", "random"]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_masks_are_nested_over_the_steps_and_end_at_the_exact_count_on_ties(
    target: float, steps: int, kinds: int, scope: str, schedule: str, score: str, seed: int
) -> None:
    model = Model(seed)
    with torch.no_grad():
        for unit in model.pruned_units():
            unit.module.weight.copy_(torch.randint(-kinds, kinds + 1, unit.module.weight.shape))
    there = {unit.name: zeros(unit) for unit in model.pruned_units()}
    options = {"schedule": schedule} if steps > 1 else {}
    stage = DARECompressor(target, num_iterations=steps, scope=scope, score=score, **options)
    stage.prepare(model, StageContext(seed=seed))
    kept = stage.pruning_masks
    for _ in range(steps):
        stage.apply_pruning_step()
        now = stage.pruning_masks
        assert all(bool((now[name] <= kept[name]).all()) for name in now)
        kept = now
    units = model.pruned_units()
    pools = {"layer": [[unit] for unit in units], "global": [units]}.get(
        scope, [[unit for unit in units if unit.tower == tower] for tower in TOWERS]
    )
    for pool in pools:
        wanted = round(target * sum(unit.numel for unit in pool))
        assert sum(map(zeros, pool)) == max(wanted, sum(there[unit.name] for unit in pool))


def test_a_layer_of_zeros_is_left_as_it_is_and_harms_nothing() -> None:
    model = Model()
    nn.init.zeros_(model.module["text"][0].weight)
    for options in ({"scope": "layer"}, {"scope": "layer", "allocation": "importance"}, {"rescale": "dare"}):
        report = DARECompressor(0.5, **options).apply(model, StageContext())
        facts = report.touched["text.0"]
        assert (facts["nonzeros"], facts["importance"], facts["relative_error"]) == (0, 0.0, 0.0)


def test_steps_reach_the_same_weights_as_one_shot_when_nothing_happens_between() -> None:
    once, gradually = Model(), Model()
    DARECompressor(0.8, scope="global").apply(once, StageContext())
    DARECompressor(0.8, num_iterations=4, scope="global").apply(gradually, StageContext())
    assert bits(once) == bits(gradually)


def test_a_second_round_counts_the_zeros_of_the_first() -> None:
    model, stage = Model(), DARECompressor(0.9).labelled("dare_2")
    for round_strength in (0.5, 0.9):
        fresh = stage.at(round_strength)
        fresh.apply(model, StageContext())
        assert (fresh.label, fresh.current_iteration) == ("dare_2", 1)
        assert all(zeros(unit) == round(round_strength * unit.numel) for unit in model.pruned_units())
    assert stage.current_iteration == 0


def test_random_drops_repeat_for_a_seed_and_differ_between_seeds() -> None:
    results = []
    for seed in (1, 1, 2):
        model = Model()
        DARECompressor(0.5, score="random", scope="global").apply(model, StageContext(seed=seed))
        results.append(bits(model))
    assert results[0] == results[1] != results[2]


# ---- against torch.nn.utils.prune


def test_per_layer_masks_are_those_of_l1_unstructured() -> None:
    ours, theirs = Model(), Model()
    stage = DARECompressor(0.7)
    stage.apply(ours, StageContext())
    for unit in theirs.pruned_units():
        peer.l1_unstructured(unit.module, "weight", amount=round(0.7 * unit.numel))
        assert torch.equal(stage.pruning_masks[unit.name], unit.module.weight_mask.bool())


def test_global_masks_are_those_of_global_unstructured() -> None:
    ours, theirs = Model(), Model()
    stage = DARECompressor(0.7, scope="global")
    stage.apply(ours, StageContext())
    parameters = [(unit.module, "weight") for unit in theirs.pruned_units()]
    total = sum(unit.numel for unit in theirs.pruned_units())
    peer.global_unstructured(parameters, pruning_method=peer.L1Unstructured, amount=round(0.7 * total))
    for unit in theirs.pruned_units():
        assert torch.equal(stage.pruning_masks[unit.name], unit.module.weight_mask.bool())


# ---- factors


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_after_a_low_rank_stage_the_factors_share_one_exact_budget(scope: str) -> None:
    model = Model()
    factorise(model.unit("vision.2"), 7)
    factorise(model.unit("text.0"), 5)
    report = DARECompressor(0.6, scope=scope).apply(model, StageContext())
    form = model.unit("vision.2").read()
    assert form.sparse is None
    assert form.stored == 7 * (20 + 32)
    if scope == "layer":
        assert form.nonzeros == form.stored - round(0.6 * form.stored)
    stored = sum(unit.read().stored for unit in model.pruned_units())
    remaining = sum(unit.read().nonzeros for unit in model.pruned_units())
    assert sum(facts["nonzeros"] for facts in report.touched.values()) == remaining
    if scope == "global":
        assert remaining == stored - round(0.6 * stored)
    assert 0 < report.touched["vision.2"]["relative_error"] < 1


def test_masks_of_factors_have_their_own_names() -> None:
    model, stage = Model(), DARECompressor(0.5)
    factorise(model.unit("vision.2"), 4)
    stage.apply(model, StageContext())
    masks = {name: tuple(mask.shape) for name, mask in stage.pruning_masks.items() if name.startswith("vision.2")}
    assert masks == {"vision.2.left": (20, 4), "vision.2.right": (4, 32)}


@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"scope": "row"}, {"score": "random"}])
def test_stored_values_are_pruned_in_the_memory_they_are_in(options: dict[str, str]) -> None:
    model = Model()
    factorise(model.unit("text.0"), 5)
    matrices = {unit.name: dict(unit.read().matrices()) for unit in model.pruned_units()}
    DARECompressor(0.6, **options).apply(model, StageContext())
    for unit in model.pruned_units():
        for name, matrix in unit.read().matrices():
            assert matrix.data_ptr() == matrices[unit.name][name].data_ptr()


def test_a_weight_in_another_memory_layout_is_pruned_all_the_same() -> None:
    model, plain = Model(), Model()
    model.module["vision"].to(memory_format=torch.channels_last)
    for each in (model, plain):
        DARECompressor(0.6, scope="global").apply(each, StageContext())
    assert all(torch.equal(weight, plain.weights()[name]) for name, weight in model.weights().items())


# ---- restoring


def test_restore_is_bit_exact_and_starts_anew() -> None:
    model = Model()
    factorise(model.unit("text.0"), 5)
    with torch.no_grad():
        model.module["vision"][2].weight[0, :3] = torch.tensor([-0.0, 1e-42, 5.0])
    before = bits(model)
    stage = DARECompressor(0.9, num_iterations=2, rescale="dare")
    stage.apply(model, StageContext())
    assert bits(model) != before
    assert stage.current_sparsity == pytest.approx(0.9, abs=0.01)
    stage.restore_weights()
    assert bits(model) == before
    assert stage.current_iteration == 0
    assert stage.current_sparsity < 0.01


def test_layers_are_restored_by_name_from_the_dense_reference_when_there_is_one() -> None:
    model = Model()
    dense = model.weights()
    stage = DARECompressor(0.5)
    stage.apply(model, StageContext(reference=dense.__getitem__))
    stage.restore_weights(["vision.0", "text.2"])
    after = model.weights()
    changed = {name for name in dense if not torch.equal(after[name], dense[name])}
    assert changed == {"vision.2", "vision.3", "text.0"}
    assert all(torch.equal(weight, dense[name]) for name, weight in stage.original_weights.items() if weight.dim() == 2)
    assert stage.original_weights["vision.0"].shape == (8, 3, 4, 4)


def test_training_after_a_restore_does_not_reach_the_backup() -> None:
    model, stage = Model(), DARECompressor(0.5)
    before = bits(model)
    stage.apply(model, StageContext())
    stage.restore_weights()
    with torch.no_grad():
        model.module["vision"][2].weight.add_(1)
    stage.restore_weights()
    assert bits(model) == before


def test_restoring_a_layer_that_was_not_pruned_names_those_that_were() -> None:
    model, stage = Model(), DARECompressor(0.5)
    stage.apply(model, StageContext())
    with pytest.raises(UserError, match=r"unknown layer 'text.1'.* Available: text.0, text.2, vision.0"):
        stage.restore_weights(["text.1"])


# ---- rescaling


def test_dare_rescaling_multiplies_survivors_by_one_over_the_share_kept() -> None:
    model = Model()
    before = model.weights()
    report = DARECompressor(0.75, num_iterations=3, rescale="dare").apply(model, StageContext())
    for unit in model.pruned_units():
        weight = unit.read().dense()
        kept = weight != 0
        factor = unit.numel / (unit.numel - round(0.75 * unit.numel))
        torch.testing.assert_close(weight[kept], before[unit.name][kept] * factor)
        assert report.touched[unit.name]["scale"] == pytest.approx(factor)


def test_least_squares_rescaling_is_the_row_fit_and_lowers_the_output_error() -> None:
    plain, fitted = Model(), Model()
    dense, batch = plain.weights(), plain.batch()
    context = StageContext(calibration=[batch], reference=dense.__getitem__)
    DARECompressor(0.8, solver="none").apply(plain, context)
    report = DARECompressor(0.8, rescale="least_squares").apply(fitted, context)

    inputs = batch["texts"].double()
    wanted, actual = inputs @ dense["text.0"].double().T, inputs @ plain.weights()["text.0"].double().T
    factors = least_squares_factor((wanted * actual).sum(0), actual.square().sum(0))
    expected = plain.weights()["text.0"] * factors[:, None].float()
    torch.testing.assert_close(fitted.weights()["text.0"], expected, rtol=1e-4, atol=1e-6)
    assert report.touched["text.0"]["scale"] == pytest.approx(float(factors.mean()), rel=1e-4)
    repaired = inputs @ fitted.weights()["text.0"].double().T
    assert (repaired - wanted).square().sum() < 0.99 * (actual - wanted).square().sum()
    assert all(zeros(unit) == round(0.8 * unit.numel) for unit in fitted.pruned_units())


def test_least_squares_without_calibration_data_says_why_it_needs_them_and_touches_nothing() -> None:
    model, stage = Model(), DARECompressor(0.5, rescale="least_squares")
    before = bits(model)
    assert stage.needs_calibration
    with pytest.raises(UserError, match="rescale=least_squares needs calibration data"):
        stage.apply(model, StageContext())
    assert bits(model) == before


def test_a_manual_factor_scales_the_weight_of_factors_too() -> None:
    model, stage = Model(), DARECompressor(0.0)
    factorise(model.unit("vision.2"), 4)
    before = model.weights()
    stage.apply(model, StageContext())
    stage.rescale_weights(2.0)
    for name, weight in model.weights().items():
        torch.testing.assert_close(weight, before[name] * 2)
    with pytest.raises(UserError, match="scale_factor is -1"):
        stage.rescale_weights(-1)


# ---- true DARE


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A checkpoint from which `Model()` was 'fine-tuned': one row of one layer is equal in both."""
    tensors = {}
    for unit in Model().pruned_units():
        weight = unit.module.weight.detach()
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
        tensors[f"{unit.name}.weight"] = weight + 0.1 * noise
    tensors["text.2.weight"][0] = Model().unit("text.2").module.weight.detach()[0]
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def true_dare(target: float, base: Path, **options: object) -> DARECompressor:
    return DARECompressor(target, score="random", rescale="dare", base=base, **options)


def test_true_dare_drops_an_exact_count_of_deltas_and_rescales_the_rest(base: Path) -> None:
    model, tuned, origins = Model(), Model().weights(), load_file(base / "model.safetensors")
    report = true_dare(0.8, base, num_iterations=2).apply(model, StageContext(seed=5))
    for unit in model.pruned_units():
        origin, count = origins[f"{unit.name}.weight"].flatten(1), round(0.8 * unit.numel)
        weight = unit.read().dense()
        dropped = weight == origin
        assert int(dropped.sum()) == count
        factor = int((tuned[unit.name] != origin).sum()) / (unit.numel - count)
        wanted = origin + (tuned[unit.name] - origin) * factor
        torch.testing.assert_close(weight[~dropped], wanted[~dropped])
        assert report.touched[unit.name]["pruned"] == count
    assert report.facts["of"] == "deltas"


def test_true_dare_at_zero_keeps_the_tuned_weights(base: Path) -> None:
    model, tuned = Model(), Model().weights()
    true_dare(0.0, base).apply(model, StageContext())
    for name, weight in model.weights().items():
        torch.testing.assert_close(weight, tuned[name])


def test_tensors_missing_from_the_base_are_all_named(base: Path) -> None:
    model = Model()
    before = bits(model)
    weight = torch.zeros(8, 3, 4, 4)
    save_file({"vision.0.weight": weight, "vision.2.weight": torch.zeros(3, 3)}, base / "model.safetensors")
    with pytest.raises(UserError) as error:
        true_dare(0.5, base).apply(model, StageContext())
    for name in ("vision.2.weight", "vision.3.weight", "text.0.weight", "text.2.weight"):
        assert f"'{name}'" in str(error.value)
    assert "'vision.0.weight'" not in str(error.value)
    assert bits(model) == before


def test_deltas_of_a_factorised_layer_are_refused(base: Path) -> None:
    model = Model()
    factorise(model.unit("vision.2"), 4)
    with pytest.raises(UserError, match=r"vision\.2 is no longer one matrix"):
        true_dare(0.5, base).apply(model, StageContext())


def test_a_base_without_random_dropping_and_its_factor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set score=random and rescale=dare"):
        DARECompressor(0.5, base=tmp_path)


# ---- options, lifecycle, facts


@pytest.mark.parametrize("target", [-0.01, 0.991, 1.0, float("nan"), "half", None, True])
def test_a_target_outside_zero_to_ninety_nine_percent_is_refused(target: object) -> None:
    with pytest.raises(UserError, match=r"target_sparsity is .*; it must be a number in \[0, 0.99\]"):
        DARECompressor(target)


def test_all_wrong_options_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        DARECompressor(1.5, num_iterations=0, schedule="cubic", scope="layers", score="magnitud", rescale="lsq")
    assert len(error.value.problems) == 6
    assert "Did you mean 'magnitude'?" in str(error.value)


def test_importance_needs_several_budgets_and_magnitudes() -> None:
    with pytest.raises(UserError) as error:
        DARECompressor(scope="global", allocation="importance", score="random")
    assert len(error.value.problems) == 2


def test_another_strength_is_a_fresh_stage_with_the_same_options() -> None:
    stage = DARECompressor(0.9, 3, "cosine", scope="tower", include=["vision.*"]).labelled("dare_3")
    other = stage.at(0.3)
    assert (other.strength, other.num_iterations, other.pruning_schedule) == (0.3, 3, "cosine")
    assert (other.scope, other.selection, other.label) == ("tower", stage.selection, "dare_3")
    with pytest.raises(UserError, match="it must be a number in"):
        stage.at(0.995)


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    model = Model()
    with torch.no_grad():
        model.module["text"][2].weight[0, 0] = float("nan")
        model.module["vision"][0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(UserError, match=r"NaN or infinite weights in vision\.0, text\.2"):
        DARECompressor(0.5).apply(model, StageContext())


def test_steps_without_a_model_and_beyond_the_last_are_refused() -> None:
    stage = DARECompressor(0.5)
    with pytest.raises(UserError, match="no model yet"):
        stage.apply_pruning_step()
    stage.apply(Model(), StageContext())
    with pytest.raises(UserError, match="all 1 pruning steps are done"):
        stage.apply_pruning_step()


def test_training_between_steps_changes_what_goes_next() -> None:
    model, stage = Model(), DARECompressor(0.5, num_iterations=2, schedule="linear")
    stage.prepare(model)
    by_layer = stage.apply_pruning_step()
    assert by_layer["vision.2"] == pytest.approx(0.25, abs=0.001)
    unit = model.unit("vision.2")
    with torch.no_grad():
        unit.module.weight[unit.module.weight != 0] = torch.linspace(1, 2, 480)
    stage.apply_pruning_step()
    assert float(unit.read().dense()[unit.read().dense() != 0].min()) > 4 / 3 - 0.01


def test_the_schedule_ends_at_the_target_itself() -> None:
    stage = DARECompressor(0.9, num_iterations=7, schedule="exponential")
    shares = [stage.calculate_sparsity_schedule(step) for step in range(7)]
    assert shares == sorted(shares)
    assert shares[-1] == 0.9


def test_importance_is_the_relative_error_per_mebibyte() -> None:
    stage = DARECompressor(0.5)
    weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    wanted = (1 + 4) / 30 / (2 * 4 / 2**20)
    assert stage.compute_layer_importance("layer", weight) == pytest.approx(wanted)
    assert stage.compute_layer_importance("factors", weight[:1], weight[1:]) == pytest.approx(wanted)
    assert stage.layer_importance["layer"] == stage.layer_importance["factors"]


def test_statistics_count_encoded_bytes_and_agree_with_the_report() -> None:
    model, stage = Model(), DARECompressor(0.9)
    report = stage.apply(model, StageContext(storage=torch.float16))
    stats = stage.get_compression_stats()
    units = model.pruned_units()
    total, gone = sum(u.numel for u in units), sum(map(zeros, units))
    assert (stats["total_parameters"], stats["pruned_parameters"]) == (total, gone)
    assert stats["sparsity"] == stage.current_sparsity == pytest.approx(gone / total)
    assert stats["compressed_bytes"] == sum(encoded_bytes(u.numel, u.read().nonzeros, 2) for u in units)
    assert stats["original_bytes"] == 2 * total
    assert stats["memory_reduction"] == pytest.approx(1 - stats["compressed_bytes"] / (2 * total))
    for name, layer in stats["layers"].items():
        assert layer.items() <= report.touched[name].items()


def test_the_report_names_what_was_skipped_and_how_far_the_weights_moved() -> None:
    model = Model()
    before = model.weights()
    report = DARECompressor(0.5, exclude=["text.*"]).apply(model, StageContext())
    assert {skipped.name: skipped.reason for skipped in report.skipped} == {
        "text.0": "excluded by pattern",
        "text.1": "excluded by pattern",
        "text.2": "excluded by pattern",
    }
    error = torch.linalg.norm(model.weights()["vision.2"] - before["vision.2"]) / torch.linalg.norm(before["vision.2"])
    assert report.touched["vision.2"]["relative_error"] == pytest.approx(float(error), rel=1e-5)
    assert report.touched["vision.2"]["nonzeros_before"] == 640


def test_zeros_that_do_not_pay_are_written_and_noted() -> None:
    report = DARECompressor(0.02).apply(Model(), StageContext(storage=torch.float32))
    assert report.touched["vision.2"]["pruned"] == 13
    assert "no bytes saved" in report.touched["vision.2"]["note"]


@pytest.mark.parametrize("target", [0.0, 0.33, 0.9])
def test_the_plan_of_a_layer_is_what_happens(target: float) -> None:
    model, stage = Model(), DARECompressor(target)
    plans = stage.plan([UnitPlan.of(unit) for unit in model.pruned_units()], 4)
    stage.apply(model, StageContext())
    assert [plan.matrices for plan in plans] == [UnitPlan.of(unit).matrices for unit in model.pruned_units()]


def test_progress_counts_layers_over_all_steps() -> None:
    seen: list[tuple[int, int, str]] = []
    context = StageContext(progress=lambda *event: seen.append(event))
    DARECompressor(0.5, num_iterations=2, scope="tower").apply(Model(), context)
    assert seen == [(done, 10, "layers") for done in range(1, 11)]


def test_the_schedule_at_its_end_is_the_target_exactly() -> None:
    stage = DARECompressor(0.7, num_iterations=3)
    assert stage.calculate_sparsity_schedule(3) == stage.calculate_sparsity_schedule(2) == 0.7
