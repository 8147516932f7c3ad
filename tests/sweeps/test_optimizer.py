"""A search of any function from Python: what it asks, what it remembers, how it goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
import torch
from torch import nn

import rcc
from rcc import BayesianOptimizer, UserError

SPACE = {"x": (-2.0, 2.0), "kind": ["flat", "steep"], "rate": {"low": 1e-4, "high": 1.0, "log": True}, "rank": (1, 8)}
STEEP = {"rank": lambda parameters: parameters["kind"] == "steep"}


def hill(parameters: dict[str, Any]) -> float:
    return float(-((parameters["x"] - 1) ** 2) + (parameters["kind"] == "steep"))


def points(optimizer: BayesianOptimizer) -> list[dict[str, Any]]:
    return [trial["params"] for trial in optimizer.trial_results]


def test_it_finds_the_top_and_remembers_every_trial() -> None:
    optimizer = BayesianOptimizer(hill, SPACE, dependencies=STEEP)
    found = optimizer.optimize(n_trials=25)
    assert found["best_params"]["kind"] == "steep"
    assert found["best_params"]["x"] == pytest.approx(1, abs=0.5)
    assert found["best_value"] == optimizer.best_value == hill(optimizer.best_params)
    assert found["best_value"] == max(trial["value"] for trial in optimizer.trial_results)
    assert [trial["number"] for trial in found["trial_results"]] == list(range(25))
    assert all(trial["state"] == "complete" and trial["seconds"] >= 0 for trial in found["trial_results"])
    assert optimizer.optuna_study.best_value == found["best_value"]


def test_points_lie_in_the_space_and_what_has_no_place_is_not_given() -> None:
    optimizer = BayesianOptimizer(hill, SPACE, dependencies=STEEP, sampler="random")
    optimizer.optimize(n_trials=20)
    for point in points(optimizer):
        assert -2 <= point["x"] <= 2
        assert 1e-4 <= point["rate"] <= 1
        assert ("rank" in point) == (point["kind"] == "steep")
    assert {type(point["rank"]) for point in points(optimizer) if "rank" in point} == {int}


def test_the_least_is_found_where_that_is_asked() -> None:
    space = {"x": [3, -1, 2]}
    optimizer = BayesianOptimizer(lambda point: abs(int(str(point["x"]))), space, "minimize", sampler="grid")
    assert optimizer.optimize(n_trials=9)["best_params"] == {"x": -1}
    assert len(optimizer.trial_results) == 3  # a grid has no more points


def test_a_search_that_goes_on_comes_out_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = BayesianOptimizer(hill, SPACE, dependencies=STEEP, seed=3)
    whole.optimize(n_trials=14)
    for count in (5, 13, 14):
        BayesianOptimizer(hill, SPACE, dependencies=STEEP, seed=3, directory=tmp_path).optimize(n_trials=count)
    again = BayesianOptimizer(hill, SPACE, dependencies=STEEP, seed=3, directory=tmp_path)
    assert points(again) == points(whole)
    assert again.best_value == whole.best_value
    assert len(again.optimize(n_trials=14)["trial_results"]) == 14


def test_a_trial_that_was_killed_is_done_again_with_its_parameters(tmp_path: Path) -> None:
    def killed(parameters: dict[str, Any]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BayesianOptimizer(killed, SPACE, directory=tmp_path).optimize(n_trials=3)
    (begun,) = BayesianOptimizer(hill, SPACE, directory=tmp_path).trial_results
    assert begun["state"] == "running"
    again = BayesianOptimizer(hill, SPACE, directory=tmp_path)
    again.optimize(n_trials=1)
    assert points(again) == [begun["params"]]
    assert again.best_value == hill(begun["params"])


def test_two_that_share_a_directory_never_do_the_same_trial(tmp_path: Path) -> None:
    other = BayesianOptimizer(hill, SPACE, directory=tmp_path)

    def slow(parameters: dict[str, Any]) -> float:
        if len(other.trial_results) == 1:
            other.optimize(n_trials=3)
        return hill(parameters)

    BayesianOptimizer(slow, SPACE, directory=tmp_path).optimize(n_trials=4)
    assert [trial["state"] for trial in other.trial_results] == ["complete"] * 4


def test_what_the_function_raises_is_noted_and_raised_and_the_search_goes_on(tmp_path: Path) -> None:
    def broken(parameters: dict[str, Any]) -> float:
        raise ZeroDivisionError("no data")

    with pytest.raises(ZeroDivisionError):
        BayesianOptimizer(broken, SPACE, directory=tmp_path).optimize(n_trials=2)
    again = BayesianOptimizer(hill, SPACE, directory=tmp_path)
    with pytest.raises(UserError, match="no trial is through"):
        _ = again.best_params
    again.optimize(n_trials=2)
    failed, done = again.trial_results
    assert (failed["state"], failed["problem"], failed["value"]) == ("fail", "ZeroDivisionError: no data", None)
    assert done["state"] == "complete"


@pytest.mark.parametrize("value", [float("nan"), None, "0.5", True, float("inf")])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"trial 0 of .* came to .*: an objective returns one finite number"):
        BayesianOptimizer(lambda parameters: value, SPACE).optimize(n_trials=1)


def test_no_trial_is_begun_after_the_time_is_up() -> None:
    optimizer = BayesianOptimizer(hill, SPACE)
    found = optimizer.optimize(n_trials=1000, timeout=1e-9)
    assert (found["best_params"], found["best_value"], found["trial_results"]) == (None, None, [])


def test_an_optuna_trial_of_another_study_is_given_the_same_space() -> None:
    optimizer = BayesianOptimizer(hill, SPACE, dependencies=STEEP)
    fixed = {"x": 0.5, "kind": "flat", "rate": 0.1}
    assert optimizer.suggest_parameters(cast(Any, optuna.trial.FixedTrial(fixed))) == fixed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective_function": 3}, "objective_function is no function: 3"),
        ({"search_space": {}}, "search_space is empty"),
        ({"search_space": {"x": "abc"}}, r"x='abc' is no range; give \(low, high\), a list of values"),
        ({"search_space": {"x": (2.0, 1.0)}}, "low is above high"),
        ({"search_space": {"x": (0.0, float("inf"))}}, "not finite"),
        ({"search_space": {"x": {"low": 0, "high": 1, "log": True}}}, "is above 0"),
        ({"search_space": {"x": []}}, "lists no words and numbers"),
        ({"search_space": {"x": [object()]}}, "lists no words and numbers"),
        ({"search_space": {"x": {"low": 0, "top": 1}}}, "is no range"),
        ({"direction": "up"}, "unknown direction 'up'.*Available: maximize, minimize"),
        ({"seed": -1}, "seed"),
        ({"sampler": "cmaes"}, "pickle"),
        ({"sampler": "tpe", "options": {"no": 1}}, "options of sampler=tpe"),
        ({"dependencies": {"y": bool}}, "unknown name of a dependency 'y'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BayesianOptimizer(**{"objective_function": hill, "search_space": SPACE, **change})


def test_the_directory_of_another_search_is_refused(tmp_path: Path) -> None:
    BayesianOptimizer(hill, SPACE, directory=tmp_path).optimize(n_trials=1)
    with pytest.raises(UserError, match="which this sweep does not search"):
        BayesianOptimizer(hill, {"y": (0, 1)}, directory=tmp_path)
    with pytest.raises(UserError, match="is to maximize, the sweep minimize"):
        BayesianOptimizer(hill, SPACE, "minimize", directory=tmp_path)


def test_the_page_of_sweeps_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(rcc.__file__).parents[1] / "docs/sweeps.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    inputs = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))

    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))

    wanted = build()(inputs).argmax(1)
    names = {
        "build": build,
        "batches": [inputs[:32], inputs[32:]],
        "validator": lambda model: float((model.module(inputs).argmax(1) == wanted).float().mean()),
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "sweeps.md", "exec"), names)
    search: Any = names["search"]
    assert len(search.trial_results) == 6
    assert 0 < search.best_value < 1
    assert ("rank" in search.best_params) == search.best_params["low_rank"]
