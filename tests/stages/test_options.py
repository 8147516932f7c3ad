"""The options of stages: types, effects, defaults, and what 'auto' comes to."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import torch
from torch import nn
from toys.layer_rows import context_for
from toys.models import SmallModel

from rcc.errors import UserError
from rcc.layers.selection import Selection
from rcc.stages.alpha import AlphaEditor
from rcc.stages.base import StageContext
from rcc.stages.dare import DARECompressor
from rcc.stages.nullu import NulluProjector
from rcc.stages.options import WITH_A_MODEL, ConfiguredStage
from rcc.stages.quant import Quantizer

STAGES: list[type[ConfiguredStage[Any]]] = [DARECompressor, NulluProjector, AlphaEditor, Quantizer]
EVERY_OPTION = [
    pytest.param(stage, name, id=f"{stage.method}.{name}")
    for stage in STAGES
    for name in inspect.signature(stage).parameters
    if name not in WITH_A_MODEL
]
WRONG: list[Any] = [True, "much", [1], {"a": 1}, 3.5, -1, object()]
"""No option takes all of these; each takes at most a few."""


def refusal(stage: type[ConfiguredStage[Any]], **options: Any) -> tuple[str, ...]:
    """The problems for which the options are refused; none where they are taken."""
    try:
        stage(**options)
    except UserError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(("stage", "name"), EVERY_OPTION)
def test_a_value_of_the_wrong_type_is_refused_by_the_options_name(stage: type[ConfiguredStage[Any]], name: str) -> None:
    found = [refusal(stage, **{name: value}) for value in WRONG]
    refused = [problems for problems in found if problems]
    assert found[-1], "an object is no value of any option"
    assert len(refused) >= len(WRONG) - 2
    assert all(name in problem for problems in refused for problem in problems)
    assert all(problem.startswith(f"stage '{stage.method}': ") for problems in refused for problem in problems)


@pytest.mark.parametrize(
    ("stage", "options", "said"),
    [
        (DARECompressor, {"target_sparsity": "0.5"}, "target_sparsity is '0.5'; it must be a number in [0, 0.99]."),
        (DARECompressor, {"num_iterations": True}, "num_iterations is True; it must be a whole number from 1 up."),
        (DARECompressor, {"include": 3}, "include is 3; it must be a list of texts, as ['a', 'b'], or null."),
        (NulluProjector, {"refit": 1}, "refit is 1; it must be true or false."),
        (AlphaEditor, {"l2": "big"}, "l2 is 'big'; it must be a number from 0 up."),
        (AlphaEditor, {"num_epochs": 1.5}, "num_epochs is 1.5; it must be a whole number from 0 up, or auto."),
        (AlphaEditor, {"task_checkpoints": "here"}, "task_checkpoints is 'here'; it must be paths by the names of"),
        (Quantizer, {"bits": 4.0}, "bits is 4.0; it must be a whole number from 2 to 8."),
        (Quantizer, {"bit": 4}, "unknown option 'bit'. Did you mean 'bits'?"),
        (Quantizer, {"device": "cpu"}, "unknown option 'device'."),
    ],
)
def test_a_refusal_says_what_was_given_and_what_is_allowed(
    stage: type[ConfiguredStage[Any]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        stage(**options)
    assert said in str(error.value)


def test_all_problems_are_told_at_once_those_of_the_selection_too() -> None:
    with pytest.raises(UserError) as error:
        Quantizer(bits=1, clip="none", roles=4, size=3)
    assert len(error.value.problems) == 4


@pytest.mark.parametrize(
    ("stage", "options", "said"),
    [
        (DARECompressor, {"schedule": "linear"}, "schedule=linear has no effect in one step"),
        (DARECompressor, {"solver": "none", "solver_refit": 3}, "solver_refit=3 has no effect with solver=none"),
        (DARECompressor, {"score": "wanda", "solver_iterations": 5}, "solver_iterations=5 has no effect with solver"),
        (DARECompressor, {"solver": "obs", "solver_iterations": 5}, "has no effect with solver=obs"),
        (DARECompressor, {"solver": "none", "floor": 0.1}, "floor=0.1 has no effect with allocation=uniform"),
        (DARECompressor, {"solver": "admm", "num_iterations": 3}, "leave num_iterations=1"),
        (DARECompressor, {"solver": "admm", "score": "wanda"}, "leave score=magnitude"),
        (NulluProjector, {"paired_rank": 2}, "paired_rank=2 has no effect without paired_features"),
        (NulluProjector, {"sparse_share": 0.2}, "sparse_share=0.2 has no effect with of=weight"),
        (NulluProjector, {"scope": "tower"}, "scope=tower has no effect with a budget for each layer"),
        (NulluProjector, {"of": "joint", "precision": "float32"}, "precision=float32 has no effect with of=joint"),
        (AlphaEditor, {"num_epochs": 0, "learning_rate": 0.1}, "learning_rate=0.1 has no effect with num_epochs=0"),
        (AlphaEditor, {"num_epochs": 0, "loss": "model"}, "loss=model has no effect with num_epochs=0"),
        (AlphaEditor, {"repair": "scales", "repair_rounds": 2}, "repair_rounds=2 has no effect with repair=scales"),
        (AlphaEditor, {"repair": "none", "damping": 0.1}, "damping=0.1 has no effect with repair=none"),
        (AlphaEditor, {"null_space_energy": 0.1}, "null_space_energy=0.1 has no effect with repair=least_squares"),
        (AlphaEditor, {"task_strength": 2.0}, "task_strength=2.0 has no effect without task_checkpoints"),
        (AlphaEditor, {"weight_by_importance": True}, "weight_by_importance=True has no effect without task_check"),
        (Quantizer, {"roles": ["mlp"], "embedding_bits": 8}, "embedding_bits=8 has no effect with roles=['mlp']"),
    ],
)
def test_an_option_without_effect_is_refused_with_what_would_give_it_one(
    stage: type[ConfiguredStage[Any]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        stage(**options)
    assert said in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_an_option_at_its_default_is_never_refused(stage: type[ConfiguredStage[Any]]) -> None:
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(stage).parameters.items()
        if name not in WITH_A_MODEL
    }
    assert stage(**options).options == stage().options


@pytest.mark.parametrize("stage", [DARECompressor, NulluProjector])
def test_another_strength_changes_one_field(stage: type[ConfiguredStage[Any]]) -> None:
    first = stage(include=["hidden"]).labelled("again")
    other = first.at(0.25)
    different = [
        field.name
        for field in fields(first.options)
        if getattr(first.options, field.name) != getattr(other.options, field.name)
    ]
    assert different == [stage.strength_option]
    assert (other.strength, other.label, other.selection) == (0.25, "again", Selection(include=["hidden"]))


@pytest.mark.parametrize(
    "stage", [AlphaEditor(), Quantizer(), NulluProjector(None), DARECompressor(0.5, pattern="2:4")]
)
def test_a_stage_without_a_strength_says_why(stage: ConfiguredStage[Any]) -> None:
    assert stage.strength is None
    with pytest.raises(UserError, match=f"stage '{stage.method}' has no strength to change: .*{stage.no_strength}"):
        stage.at(0.5)


def test_options_cannot_be_changed_and_are_read_from_the_stage() -> None:
    stage = DARECompressor(0.5, score="wanda")
    assert (stage.target_sparsity, stage.score, stage.pruning_schedule) == (0.5, "wanda", "polynomial")
    with pytest.raises(FrozenInstanceError):
        stage.options.score = "magnitude"
    with pytest.raises(AttributeError, match="DARECompressor has no attribute 'sparsity'"):
        _ = stage.sparsity


# ---- auto


def test_pruning_is_solved_where_there_is_data_and_by_magnitude_where_there_is_none() -> None:
    stage, model = DARECompressor(0.5), SmallModel()
    assert (stage.needs_calibration, stage.uses_calibration) == (False, True)
    facts = stage.apply(model, context_for(SmallModel())).facts
    assert (facts["solver"], facts["allocation"]) == ("admm", "sensitivity")
    assert facts["auto"] == {"solver": "admm", "allocation": "sensitivity"}
    facts = stage.apply(SmallModel(), StageContext()).facts
    assert (facts["solver"], facts["allocation"]) == ("none", "uniform")
    assert facts["without_calibration_data"]


@pytest.mark.parametrize(
    ("options", "solver", "allocation"),
    [
        ({"score": "wanda"}, "none", "uniform"),
        ({"num_iterations": 3, "schedule": "linear"}, "none", "uniform"),
        ({"solver": "obs"}, "obs", "sensitivity"),
        ({"scope": "global"}, "admm", "uniform"),
        ({"allocation": "owl", "solver": "none"}, "none", "owl"),
        ({"target_sparsity": 0.5, "pattern": "2:4"}, "admm", "uniform"),
    ],
)
def test_what_was_asked_for_decides_what_auto_is(options: dict[str, Any], solver: str, allocation: str) -> None:
    taken = DARECompressor(**options).options.resolved(calibrated=True)
    assert (taken.solver, taken.allocation) == (solver, allocation)


def test_a_solvers_option_without_data_is_refused_with_why_there_is_no_solver() -> None:
    stage = DARECompressor(0.5, solver_refit=3)
    assert stage.needs_calibration
    with pytest.raises(UserError, match=r"solver_refit=3 has no effect with solver=none(.|\n)*no calibration data"):
        stage.apply(SmallModel(), StageContext())


def test_pairs_are_fitted_to_outputs_where_there_is_data_and_to_weights_where_there_is_none() -> None:
    stage = NulluProjector(0.5, None)
    assert (stage.needs_calibration, stage.uses_calibration) == (False, True)
    assert stage.apply(SmallModel(), context_for(SmallModel())).facts["metric"] == "calibration"
    assert stage.apply(SmallModel(), StageContext()).facts["metric"] == "plain"


# ---- by hand


def test_the_first_argument_may_be_the_model_or_the_first_option() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    assert DARECompressor(net, 0.5).strength == DARECompressor(0.5).strength == 0.5
    assert list(inspect.signature(DARECompressor).parameters)[:5] == [
        "model", "target_sparsity", "num_iterations", "schedule", "device",
    ]  # fmt: skip
    with pytest.raises(UserError, match="model is str; give a torch"):
        DARECompressor(model="clip")
    with pytest.raises(UserError, match="device=cpu has no effect without a model"):
        DARECompressor(0.5, device="cpu")


def test_pruning_by_hand_as_the_specification_has_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    stage = DARECompressor(net, 0.9, 3, "linear", "cpu")
    assert stage.current_sparsity == 0.0
    assert {name: (mask.shape, bool(mask.all())) for name, mask in stage.pruning_masks.items()} == {
        "0": (net[0].weight.shape, True),
        "2": (net[2].weight.shape, True),
    }
    assert torch.equal(stage.original_weights["0"], net[0].weight)
    assert stage.layer_importance.keys() == {"0", "2"}
    assert stage.compute_layer_importance("2", net[2].weight) >= 0
    for due in (0.3, 0.6, 0.9):
        shares = stage.apply_pruning_step()
        assert shares["0"] == pytest.approx(due, abs=1 / 216)
    assert stage.calculate_sparsity_schedule(3) == 0.9
    assert torch.equal(stage.pruning_masks["0"], net[0].weight != 0)
    stage.rescale_weights(2.0)
    stage.restore_weights()
    assert bool(stage.pruning_masks["0"].all())
    assert stage.get_compression_stats()["pruned_parameters"] == 0


def test_factorising_by_hand_as_the_specification_has_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8, 6))
    stage = NulluProjector(net, 0.5, 0.95, "cpu")
    assert stage.original_ranks == {"0": 3, "2": 6}
    assert (stage.model.module, stage.device) == (net, torch.device("cpu"))
    assert (stage.decomposed_layers, stage.null_spaces, stage.selected_ranks) == ({}, {}, {})
    found = stage.decompose_layer("2", net[2].weight)
    assert found["rank"] == stage.selected_ranks["2"] == 1
    assert stage.reconstruct_weight("2").shape == net[2].weight.shape
    assert stage.project_to_null_space("2").shape == (7, 8)


def test_learning_scales_by_hand_as_the_specification_has_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    stage = AlphaEditor(net, 0.05, "gradient", "cpu")
    assert {name: raw.tolist() for name, raw in stage.alpha_parameters.items()} == {"0": [0.0] * 5, "2": [0.0] * 3}
    assert (stage.model.module, stage.device) == (net, torch.device("cpu"))
    assert (stage.task_vectors, stage.importance_scores, stage.interpolation_weights) == ({}, {}, {})
    before = net[0].weight.detach().clone()
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    found = stage.optimize_alphas(loader, nn.CrossEntropyLoss(), num_epochs=4)
    assert found["loss_after"] < found["loss_before"]
    assert nn.functional.cross_entropy(net(x), y).item() == pytest.approx(found["loss_after"], abs=1e-5)
    torch.testing.assert_close(net[0].weight.detach(), stage.apply_alpha_scaling("0", before))


def test_learning_by_hand_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match=r"AlphaEditor\(model, …\)"):
        AlphaEditor().optimize_alphas([], nn.CrossEntropyLoss())
    with pytest.raises(UserError, match=r"batch 0 has none: give pairs \(x, y\)"):
        AlphaEditor(nn.Sequential(nn.Linear(2, 2))).optimize_alphas([torch.zeros(1, 2)], nn.CrossEntropyLoss())
