"""Batches of an evaluation are as large as a share of the memory holds, alike for all models, and 256 at most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rcc.evaluation.batch_size
import rcc.memory
from rcc.data.loading import batches_held
from rcc.data.registry import load_data
from rcc.errors import UserError
from rcc.evaluation.batch_size import LARGEST, SHARE, BatchSize, bytes_an_item, fitting
from rcc.evaluation.classes.classification import ClassificationEvaluator
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.evaluation.retrieval.evaluator import RetrievalEvaluator
from rcc.evaluation.suite import Suite
from rcc.layers.model import Batch
from rcc.memory import machine_bytes
from rcc.models.own.module import ModuleAdapter


class Wide(nn.Module):
    """4 kB in, 40 kB in between, 4 kB out, for each item; relu in place, so that no more is ever alive."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1000, 10_000), nn.Linear(10_000, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu_())  # type: ignore[no-any-return]


WIDE = ModuleAdapter(Wide())
AN_ITEM = 4_000 + 40_000 + 4_000


def sample(count: int) -> Batch:
    return {"x": torch.randn(count, 1000)}


def with_memory(monkeypatch: pytest.MonkeyPatch, nbytes: float) -> None:
    monkeypatch.setattr(rcc.evaluation.batch_size, "machine_bytes", lambda device: nbytes)


def test_an_item_takes_its_activations_and_the_inputs_that_wait() -> None:
    # The output comes while input and hidden layer are there; the other batches that are held have inputs alone.
    assert bytes_an_item(WIDE, sample) == AN_ITEM + (batches_held() - 1) * 4_000
    assert all(parameter.grad is None and parameter.requires_grad for parameter in WIDE.module.parameters())


@pytest.mark.parametrize(("items", "expected"), [(0.5, 1), (1, 1), (100, 64), (128, 128), (10**6, LARGEST)])
def test_the_largest_power_of_two_that_fits_is_taken(
    items: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, items * bytes_an_item(WIDE, sample) / SHARE)
    assert fitting(WIDE, sample) == expected


def test_a_number_by_hand_holds_and_nothing_is_measured() -> None:
    size = BatchSize(7)
    assert size.of("images", WIDE, pytest.fail) == 7
    assert size.note == ""
    for wrong in (0, -1, "many", True, 1.5):
        with pytest.raises(UserError, match=r"batch_size is .*; it must be a whole number from 1 up, or auto\."):
            BatchSize(wrong)  # type: ignore[arg-type]


def test_what_the_first_model_takes_holds_for_all_and_is_told_where_it_is_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = BatchSize("auto")
    with_memory(monkeypatch, 20 * bytes_an_item(WIDE, sample) / SHARE)
    assert size.of("images", WIDE, sample) == 16
    with_memory(monkeypatch, 1e15)
    assert size.of("images", WIDE, sample) == 16
    assert size.note == "Batches of 16 images, by batch_size=auto: what 1/8 of the memory holds."
    assert size.of("texts", WIDE, sample) == LARGEST
    assert "texts" not in size.note


class Splitting(ModuleAdapter):
    """Classes by sums of pixels; notes the sizes of the batches that it is given."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10)))
        self.reads = ("images",)
        self.sizes: list[int] = []

    def prepare(self, *args: Any, **fields: Any) -> Batch:
        return {
            "input": torch.stack([torch.from_numpy(np.asarray(each)[..., 0].copy()) for each in fields["images"]]) / 255
        }

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch["input"]))
        return {"logits": self.module(batch["input"])}


def test_an_evaluation_on_little_memory_finds_what_it_finds_on_much(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load_data("digits")
    few = replace(splits, test=splits.test.subset(np.arange(20)))
    whole = Splitting()
    wanted = ClassificationEvaluator().evaluate(whole, few.test, few)
    assert (whole.sizes, "Batches of" in wanted.details["note"]) == ([1, 2, 20], False)
    item = bytes_an_item(whole, lambda count: whole.prepare(images=few.test.images[:count]))
    with_memory(monkeypatch, 8 * item / SHARE)
    parts, evaluator = Splitting(), ClassificationEvaluator()
    Suite({"classification": evaluator}).fit_batches(parts, few.test, few)
    with_memory(monkeypatch, 1e15)
    found = evaluator.evaluate(parts, few.test, few)
    assert found.metrics == wanted.metrics
    assert parts.sizes == [1, 2, 8, 8, 4]
    assert found.details["note"].endswith("Batches of 8 images, by batch_size=auto: what 1/8 of the memory holds.")


def test_the_memory_of_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine_bytes()
    monkeypatch.setattr(rcc.memory, "_CGROUP_LIMIT", tmp_path / "memory.max")
    assert machine_bytes() >= whole
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_bytes() >= whole
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine_bytes(torch.device("cpu")) == 1 << 20


def test_all_that_encode_a_split_ask_for_what_fits_by_default() -> None:
    for evaluator in (ClassificationEvaluator(), ZeroShotEvaluator().cache, RetrievalEvaluator().cache):
        assert evaluator.sizes.asked == "auto"
