from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rcc.artifact.packing
from rcc.cascade.state import StateStore
from rcc.errors import UserError, WorkError
from rcc.layers.form import Form
from rcc.layers.modules import FormLinear
from rcc.models.own.module import ModuleAdapter


@pytest.fixture
def model() -> ModuleAdapter:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 6), nn.Linear(6, 2))
    return ModuleAdapter(network)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state")


def factor(model: ModuleAdapter) -> None:
    unit = next(unit for unit in model.units() if unit.name == "3")
    unit.write(Form(left=torch.randn(6, 2), right=torch.randn(2, 8), bias=unit.read().bias))


def weights(model: ModuleAdapter) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def names(store: StateStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def test_a_step_brings_back_structure_weights_and_record(store: StateStore, model: ModuleAdapter) -> None:
    dense = weights(model)
    record = {"retention": 0.1 + 0.2, "nothing": None, "undefined": float("nan"), "deep": [{"a": 1}]}
    path = store.save(0, "initial", model, record)
    assert path == store.directory / "step-000-initial"
    factor(model)
    factored = weights(model)
    store.save(1, "nullu", model, {})

    back = store.load(0, model)
    assert (back["retention"], back["nothing"], back["deep"]) == (0.1 + 0.2, None, [{"a": 1}])
    assert math.isnan(back["undefined"])
    assert same(weights(model), dense)
    assert type(model.module[3]) is nn.Linear
    assert store.load(1, model) == {}
    assert same(weights(model), factored)
    assert isinstance(model.module[3], FormLinear)


def test_half_precision_stays_what_it_was(store: StateStore, model: ModuleAdapter) -> None:
    model.module.to(torch.bfloat16)
    before = weights(model)
    store.save(0, "initial", model, {})
    model.module.float()
    store.load(0, model)
    assert same(weights(model), before)
    assert model.module[3].weight.dtype == torch.bfloat16


def test_every_random_generator_goes_on_where_it_was(store: StateStore, model: ModuleAdapter) -> None:
    def draw() -> list[Any]:
        numbers = [torch.randn(3).tolist(), np.random.randn(3).tolist(), random.random(), random.gauss(0, 1)]
        return [*numbers, np.random.randint(9, size=4).tolist()]

    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    draw()  # leaves half a pair of normal numbers in numpy's and python's generators
    np.random.randn()
    store.save(0, "initial", model, {})
    expected = draw()
    draw()
    store.load(0, model)
    assert draw() == expected


def test_nothing_in_a_step_is_a_pickle(store: StateStore, model: ModuleAdapter) -> None:
    path = store.save(0, "initial", model, {"a": 1})
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "state.json", "weights.safetensors"]
    assert json.loads((path / "state.json").read_text())["record"] == {"a": 1}


def test_a_new_store_finds_the_steps_of_an_old_one(store: StateStore, model: ModuleAdapter) -> None:
    assert store.latest() is None
    assert store.indices() == []
    assert not store.directory.exists()
    store.save(0, "initial", model, {})
    store.save(1, "dare", model, {"n": 1})
    again = StateStore(store.directory)
    assert (again.latest(), again.indices()) == (1, [0, 1])
    assert again.load(1, model) == {"n": 1}


def test_initial_best_and_the_last_ones_are_kept(store: StateStore, model: ModuleAdapter) -> None:
    scores = [-math.inf, 1.0, 5.0, 2.0, 5.0, 3.0, -math.inf, math.nan]
    kept = []
    for index, score in enumerate(scores):
        store.save(index, "dare", model, {}, score)
        kept.append(store.indices())
    assert kept == [
        [0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5], [0, 4, 5, 6], [0, 4, 6, 7],
    ]  # fmt: skip


def test_keep_last_is_checked() -> None:
    with pytest.raises(UserError, match="keep_last is 0"):
        StateStore("state", keep_last=0)


def test_a_step_is_never_overwritten(store: StateStore, model: ModuleAdapter) -> None:
    store.save(0, "initial", model, {"first": True})
    with pytest.raises(UserError, match="step-000-initial exists"):
        store.save(0, "other", model, {})
    assert store.load(0, model) == {"first": True}


def test_a_name_cannot_leave_the_directory(store: StateStore, model: ModuleAdapter) -> None:
    path = store.save(0, "../../dare (round 2 of 3)", model, {})
    assert path.parent == store.directory
    assert StateStore(store.directory).indices() == [0]


def test_steps_after_a_rollback_can_be_discarded_and_saved_anew(store: StateStore, model: ModuleAdapter) -> None:
    for index in range(3):
        store.save(index, "step", model, {"index": index})
    store.discard_after(0)
    assert store.indices() == [0]
    store.save(1, "other", model, {})
    assert names(store) == ["step-000-initial".replace("initial", "step"), "step-001-other"]


def test_reference_reads_the_dense_weight_of_each_unit(store: StateStore, model: ModuleAdapter) -> None:
    model.module[4].weight.data[0] = 0.0
    model.module[4].weight.data[1, 2:] = 0.0  # sparse enough for a bitmask
    expected = {unit.name: unit.read().dense().clone() for unit in model.units()}
    store.save(0, "initial", model, {})
    factor(model)
    model.module[0].weight.data.zero_()
    assert [found.shape for found in expected.values()] == [(4, 6), (1, 8), (6, 8), (2, 6)]
    for name, weight in expected.items():
        found = store.reference(name)
        assert torch.equal(found, weight)
        assert found.data_ptr() % 64 == 0
    with pytest.raises(UserError, match=r"holds no unit 'zzz': tensor 'zzz\.weight'"):
        store.reference("zzz")


def test_reference_composes_a_first_step_that_was_factored_already(store: StateStore, model: ModuleAdapter) -> None:
    factor(model)
    store.save(0, "initial", model, {})
    assert torch.equal(store.reference("3"), model.module[3].weight)


def test_reference_checks_what_it_reads(store: StateStore, model: ModuleAdapter) -> None:
    path = store.save(0, "initial", model, {})
    flip_last_byte(path / "weights.safetensors")
    damaged = [unit.name for unit in model.units() if raises(lambda name=unit.name: store.reference(name))]
    assert len(damaged) <= 1
    with pytest.raises(UserError, match="does not hold the bytes that were written"):
        store.load(0, model)


def raises(action: Callable[[], Any]) -> bool:
    try:
        action()
    except UserError:
        return True
    return False


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "state.json", "manifest.json"])
def test_a_corrupt_latest_step_is_refused_by_name_and_the_way_on_is_said(
    file: str, store: StateStore, model: ModuleAdapter
) -> None:
    store.save(0, "initial", model, {})
    path = store.save(1, "dare", model, {})
    (path / file).write_bytes((path / file).read_bytes()[:-40])
    before, numbers = weights(model), torch.get_rng_state()
    with pytest.raises(UserError) as caught:
        StateStore(store.directory).load(1, model)
    text = str(caught.value)
    assert str(path / file) in text or f"'{file}'" in text
    assert f"To go on from step 0 instead, remove {path} and resume again." in text
    assert same(weights(model), before)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert store.latest() == 1  # never passed over in silence
    shutil.rmtree(path)
    assert store.load(store.latest(), model) == {}


@pytest.mark.parametrize("key", ["index", "name", "score", "record", "random"])
@pytest.mark.parametrize("value", ["é", [3], {"a": 1}, True, None])
def test_a_state_of_other_types_is_refused_and_is_never_the_best(
    key: str, value: object, store: StateStore, model: ModuleAdapter
) -> None:
    store.save(0, "initial", model, {}, score=0.5)
    path = store.save(1, "dare", model, {})
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {key: value}))
    if (key, value) in (("name", "é"), ("record", {"a": 1}), ("random", {"a": 1})):
        with pytest.raises(UserError, match="is not the one that was written"):  # of the right type, and altered
            store.load(1, model)
        return
    with pytest.raises(UserError, match=rf"state\.json is damaged: '{key}' is not a|one word"):
        store.load(1, model)
    store.clean()
    assert store.indices() == [0, 1]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"index": 0, "attempts": 3}', '{"index": 0, "attempts": [3]}', "[" * 10**5]
)
def test_a_damaged_note_of_what_was_refused_says_that_it_may_go(text: str, store: StateStore) -> None:
    store.directory.mkdir(exist_ok=True)
    (store.directory / "refused.json").write_text(text)
    with pytest.raises(UserError, match=r"refused\.json"):
        store.refused(0)


def test_an_altered_record_is_refused(store: StateStore, model: ModuleAdapter) -> None:
    path = store.save(0, "initial", model, {"retention": 0.5})
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text.replace("0.5", "0.9"))
    with pytest.raises(UserError, match=r"'state\.json' is not the one.*\n?.*start a fresh run"):
        store.load(0, model)


def test_a_step_that_is_not_there_lists_those_that_are(store: StateStore, model: ModuleAdapter) -> None:
    store.save(0, "initial", model, {})
    with pytest.raises(UserError, match=r"no step 7 any more\. Steps there: step-000-initial"):
        store.load(7, model)


def test_two_directories_of_one_step_are_refused(store: StateStore, model: ModuleAdapter) -> None:
    path = store.save(0, "initial", model, {})
    shutil.copytree(path, path.with_name("step-000-other"))
    with pytest.raises(UserError, match="two steps 0: step-000-initial and step-000-other"):
        store.latest()


def test_an_unreadable_state_directory_is_no_fresh_start(
    store: StateStore, model: ModuleAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(0, "initial", model, {})

    def denied(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(UserError, match=r"cannot read .*state: Permission denied"):
        store.latest()


def test_a_full_disk_keeps_the_steps_that_are_there(
    store: StateStore, model: ModuleAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(0, "initial", model, {"n": 0})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkError, match="step-001-dare: No space left on device"):
            store.save(1, "dare", model, {})
    assert names(store) == ["step-000-initial"]
    assert store.load(0, model) == {"n": 0}


def test_other_files_of_the_run_are_left_alone(store: StateStore, model: ModuleAdapter) -> None:
    store.directory.mkdir()
    (store.directory / "targets.safetensors").write_text("x")
    for index in range(5):
        store.save(index, "s", model, {})
    assert names(store) == ["step-000-s", "step-003-s", "step-004-s", "targets.safetensors"]


class Killed(BaseException):
    """The process is gone: nothing after this touches the disk, no clean-up either."""


class Executioner:
    """Lets `survives` operations on the disk through and fails that one and all after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, survives: int) -> None:
        self.left, self.operations = survives, 0
        for owner, name in (
            (os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"),
            (Path, "mkdir"), (Path, "write_text"), (Path, "unlink"), (rcc.artifact.packing, "digest"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self.guarded(getattr(owner, name)))

    def guarded(self, operation: Callable) -> Callable:
        def guard(*arguments: Any, **options: Any) -> Any:
            self.operations += 1
            if self.operations > self.left:
                raise Killed
            return operation(*arguments, **options)

        return guard


def run(directory: Path, model: ModuleAdapter, steps: int) -> None:
    """A run that goes on from its latest step; every step doubles a weight, so that its number can be read off."""
    store = StateStore(directory, keep_last=1)
    store.clean()
    latest = store.latest()
    if latest is None:
        store.save(0, "initial", model, {"step": 0})
        latest = 0
    else:
        assert store.load(latest, model) == {"step": latest}
    for index in range(latest + 1, steps + 1):
        model.module[4].weight = nn.Parameter(model.module[4].weight.detach() * 2 + torch.randn(2, 6))
        store.save(index, "double", model, {"step": index}, score=float(index))


def fresh() -> ModuleAdapter:
    torch.manual_seed(0)
    return ModuleAdapter(
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 6), nn.Linear(6, 2))
    )


def test_killed_before_any_operation_on_the_disk_a_run_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a kill, not a power cut: counted, and not waited for
    steps = 2
    with monkeypatch.context() as patch:
        whole = Executioner(patch, survives=10**9)
        run(tmp_path / "whole", fresh(), steps)
    expected = {path.name: (path / "weights.safetensors").read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert sorted(expected) == ["step-000-initial", "step-002-double"]
    assert whole.operations > 40

    for survives in range(whole.operations):
        directory = tmp_path / f"killed-{survives}"
        with monkeypatch.context() as patch:
            Executioner(patch, survives)
            with pytest.raises(Killed):
                run(directory, fresh(), steps)
        store = StateStore(directory)
        latest = store.latest()
        if latest is not None:
            assert store.load(latest, fresh()) == {"step": latest}
        run(directory, fresh(), steps)
        found = {path.name: (path / "weights.safetensors").read_bytes() for path in directory.iterdir()}
        assert found == expected
