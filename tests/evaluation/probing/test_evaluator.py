"""Nearest neighbours and linear probes against scikit-learn's neighbours and torch's own minimum of the same loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from rcc.data.registry import load_data
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.probing.evaluator import ProbingEvaluator, linear_probe, nearest_of_each_class
from rcc.measurement.shares import share_interval
from rcc.models.own.module import ModuleAdapter
from rcc.models.registry import load_model


def clouds(count: int, seed: int, spread: float = 0.8) -> tuple[torch.Tensor, torch.Tensor]:
    """Points about the centres of four classes, on the sphere, and their classes."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 12, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(0, 4, (count,), generator=draw)
    return F.normalize(centres[labels] + spread * torch.randn(count, 12, generator=draw), dim=1), labels


def embedder() -> ModuleAdapter:
    """Gives what it is given."""
    return ModuleAdapter(
        torch.nn.Linear(12, 12),
        prepare=lambda points: {"input": torch.stack([torch.as_tensor(point) for point in points])},
        reads=["points"],
        outputs=lambda batch: {"point_embeds": batch["input"]},
    )


def splits_of(train: int = 60, test: int = 50) -> Splits:
    def split(name: str, count: int, seed: int) -> Split:
        points, labels = clouds(count, seed)
        return Split(name, labels=labels.numpy(), points=points.numpy())

    return Splits(
        split("train", train, 0), split("calibration", 4, 1), split("selection", 9, 2), split("test", test, 3),
        ("a", "b", "c", "d"),
    )  # fmt: skip


def test_the_nearest_neighbour_is_that_of_scikit_learn() -> None:
    (known, labels), (items, _) = clouds(80, 0), clouds(60, 1)
    theirs = KNeighborsClassifier(1, metric="cosine").fit(known, labels).predict(items)
    found = nearest_of_each_class(items, known, labels, 4)
    assert found.argmax(1).tolist() == theirs.tolist()
    torch.testing.assert_close(found.amax(1), (items @ known.T).amax(1))


def test_the_probe_is_the_minimum_of_its_loss_that_torch_finds() -> None:
    (known, labels), (items, _) = clouds(80, 0), clouds(60, 1)
    mean, scale = known.double().mean(0), known.double().std(0, unbiased=False)
    x, y = (known.double() - mean) / scale, F.one_hot(labels, 4).double()
    weight, bias = (
        torch.zeros(12, 4, dtype=torch.float64, requires_grad=True),
        torch.zeros(4, dtype=torch.float64, requires_grad=True),
    )
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=2000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -(y * (x @ weight + bias).log_softmax(1)).sum() + 0.5 * 2.0 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    wanted = (((items.double() - mean) / scale) @ weight + bias).log_softmax(1).detach()
    found = linear_probe(items, known, labels, 4, regularisation=2.0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)
    assert found.argmax(1).tolist() == wanted.argmax(1).tolist()


def test_a_class_without_a_reference_is_never_told() -> None:
    (known, labels), (items, _) = clouds(80, 0), clouds(60, 1)
    few = labels != 2
    for scores in (
        nearest_of_each_class(items, known[few], labels[few], 4), linear_probe(items, known[few], labels[few], 4)
    ):  # fmt: skip
        assert torch.isinf(scores[:, 2]).all()
        assert 2 not in scores.argmax(1).tolist()


def test_metrics_are_shares_with_wilsons_intervals_and_values_an_item() -> None:
    splits, adapter = splits_of(), embedder()
    found = ProbingEvaluator(batch_size=7).evaluate(adapter, splits.test, splits)
    assert [metric.name for metric in found.metrics] == [
        "neighbour_accuracy", "probe_accuracy", "neighbour_mean_class_accuracy", "probe_mean_class_accuracy",
    ]  # fmt: skip
    assert (found.primary, found.split, found.samples) == ("neighbour_accuracy", "test", 50)
    known, items = (
        torch.from_numpy(np.asarray(split.fields["points"][:].values)) for split in (splits.train, splits.test)
    )
    theirs = KNeighborsClassifier(1, metric="cosine").fit(known, splits.train.labels).predict(items)
    share = float((theirs == splits.test.labels).mean())
    assert found.main.value == pytest.approx(share)
    assert found.main.interval == share_interval(share, 50)
    assert 0.25 < share < 1
    for name in ("neighbour_accuracy", "probe_accuracy"):
        assert np.mean(found.details["per_image"][name]) == pytest.approx(found[name].value)
    assert found.details["predictions"] == theirs.tolist()
    assert "60 items of the training split" in found.details["note"]


def test_references_are_the_first_ones_and_all_where_null() -> None:
    splits, adapter = splits_of(), embedder()
    few = ProbingEvaluator(references=20).evaluate(adapter, splits.test, splits)
    every = ProbingEvaluator(references=None).evaluate(adapter, splits.test, splits)
    assert "20 items" in few.details["note"]
    assert few.details["predictions"] != every.details["predictions"]


def test_what_cannot_be_probed_is_refused_before_anything_is_embedded() -> None:
    splits, adapter, evaluator = splits_of(), embedder(), ProbingEvaluator()
    empty = Splits(
        splits.train.subset(np.arange(0)), splits.calibration, splits.selection, splits.test, splits.class_names
    )
    with pytest.raises(UserError, match="training split, which is empty"):
        evaluator.check(adapter, splits.test, empty)
    same = splits.train.subset(np.flatnonzero(splits.train.labels == 1))
    alone = Splits(same, splits.calibration, splits.selection, splits.test, splits.class_names)
    with pytest.raises(UserError, match="are of 1 classes: two or more are needed"):
        evaluator.check(adapter, splits.test, alone)
    adapter.reads = ("audio",)
    with pytest.raises(UserError, match="reads audio, and the items of the data are points"):
        evaluator.check(adapter, splits.test, splits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"references": 1}, "references is 1"),
        ({"regularisation": 0}, "regularisation is 0"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ProbingEvaluator(**options)


def test_sounds_are_told_by_whisper_better_than_by_chance(
    checkpoint_of: Callable[[str], Path], data_set: Callable[[str], Path]
) -> None:
    splits = load_data("fsdd", path=str(data_set("fsdd")), calibration=4, selection=6)
    model = load_model("whisper", path=checkpoint_of("whisper"), device="cpu", context="clip")
    found = ProbingEvaluator().evaluate(model, splits.test, splits)
    assert found.main.value >= 0.5
