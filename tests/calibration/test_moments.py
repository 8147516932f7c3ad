"""Second moments of inputs against numpy on the inputs themselves: shared, masked, unfolded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rcc.calibration.moments as under_test
from rcc.calibration.moments import input_moments
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.input_rows import input_rows
from rcc.layers.units import Unit, find_units


class Model:
    """Tokens through q, k, v and out; images through two convolutions; a layer that never runs."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.calls = 0
        self.module = nn.ModuleDict(
            {
                "q": nn.Linear(6, 4),
                "k": nn.Linear(6, 4),
                "v": nn.Linear(6, 5, bias=False),
                "out": nn.Linear(4, 3),
                "conv": nn.Conv2d(2, 4, 3, stride=2, padding=1),
                "grouped": nn.Conv2d(4, 6, 2, groups=2, dilation=2),
                "idle": nn.Linear(7, 2),
                "norm": nn.LayerNorm(3),
            }
        )

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        part = self.module
        tokens = batch["tokens"]
        mixed = part["q"](tokens).sigmoid() * part["k"](input=tokens) + part["v"](tokens)[..., :4]
        images = part["grouped"](part["conv"](batch["images"]).relu())
        return {"text": part["norm"](part["out"](mixed)), "image": images}


def batches(count: int = 3, masked: bool = True) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    made = []
    for length in range(3, 3 + count):
        batch = {
            "tokens": torch.randn(2, length, 6, generator=generator),
            "images": torch.randn(2, 2, 9, 8, generator=generator),
        }
        if masked:
            batch["attention_mask"] = torch.ones(2, length, dtype=torch.int64)
            batch["attention_mask"][1, 2:] = 0
        made.append(batch)
    return made


def by_name(model: Model) -> dict[str, Unit]:
    return {unit.name: unit for unit in find_units(model.module)}


def seen(model: Model, name: str, data: list[dict[str, Tensor]], rows: Callable[[Tensor], Tensor]) -> np.ndarray:
    """What the module was given, as rows in float64: an independent hook, mask and unfolding."""
    found = []
    for batch in data:
        keep = batch.get("attention_mask")

        def hook(module: nn.Module, args: tuple[Tensor], kwargs: dict, keep: Tensor | None = keep) -> None:
            inputs = args[0] if args else kwargs["input"]
            masked = inputs.dim() == 3 and keep is not None
            found.append(rows(inputs[keep.bool()] if masked else inputs).double().numpy())

        handle = model.module[name].register_forward_pre_hook(hook, with_kwargs=True)
        with torch.no_grad():
            model.outputs(batch)
        handle.remove()
    return np.concatenate(found, -2)


@pytest.mark.parametrize("masked", [True, False])
def test_moments_are_those_of_the_inputs_that_count(masked: bool) -> None:
    model, data = Model(), batches(masked=masked)
    found = input_moments(model, find_units(model.module), data)
    for name in ("q", "k", "v", "out"):
        x = seen(model, name, data, lambda inputs: inputs.reshape(-1, inputs.shape[-1]))
        assert found[name].samples == len(x) == (3 + 4 + 5 + 3 * 2 if masked else 2 * (3 + 4 + 5))
        np.testing.assert_allclose(found[name].diagonal.numpy(), (x**2).mean(0), rtol=1e-9)
        assert found[name].diagonal.dtype == torch.float64


def test_convolutions_are_unfolded_and_grouped_ones_have_a_row_for_each_group() -> None:
    model, data = Model(), batches()

    def patches(images: Tensor) -> Tensor:
        padded = nn.functional.pad(images, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)
        return padded.permute(0, 2, 3, 1, 4, 5).reshape(-1, 18)

    def halves(images: Tensor) -> Tensor:
        places = images.unfold(2, 3, 1).unfold(3, 3, 1)[..., ::2, ::2]
        return places.unflatten(1, (2, 2)).permute(1, 0, 3, 4, 2, 5, 6).reshape(2, -1, 8)

    found = input_moments(model, find_units(model.module), data)
    x = seen(model, "conv", data, patches)
    assert found["conv"].samples == len(x)
    np.testing.assert_allclose(found["conv"].diagonal.numpy(), (x**2).mean(0), rtol=1e-9)
    x = seen(model, "grouped", data, halves)
    assert found["grouped"].samples == x.shape[1]
    np.testing.assert_allclose(found["grouped"].diagonal.numpy(), (x**2).mean(1), rtol=1e-9)


def test_inputs_that_are_one_tensor_are_computed_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = Model(), []
    rows = under_test.input_rows
    monkeypatch.setattr(under_test, "input_rows", lambda *given: made.append(given[0]) or rows(*given))
    found = input_moments(model, find_units(model.module), batches(2))
    assert torch.equal(found["q"].diagonal, found["k"].diagonal)
    assert torch.equal(found["q"].diagonal, found["v"].diagonal)
    assert made == 2 * [model.module[name] for name in ("q", "conv", "grouped", "out")]


def test_one_pass_over_the_batches() -> None:
    model = Model()
    input_moments(model, find_units(model.module), batches(3))
    assert model.calls == 3


class Changing(Model):
    """k is given q's tensor on the first batch and another afterwards; or the same one, changed in between."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = batch["tokens"].clone()
        self.module["q"](tokens)
        if tokens.shape[1] > 3:
            tokens = tokens.mul_(3) if self.in_place else tokens * 3
        return {"text": self.module["k"](tokens)}


@pytest.mark.parametrize("in_place", [True, False])
def test_units_that_share_on_one_batch_and_not_on_another_are_told_apart(in_place: bool) -> None:
    model, data = Changing(in_place), batches(3, masked=False)
    found = input_moments(model, find_units(model.module), data)
    q = np.concatenate([batch["tokens"].reshape(-1, 6).double().numpy() for batch in data])
    k = np.concatenate([q[:6], 3 * q[6:]])
    np.testing.assert_allclose(found["q"].diagonal.numpy(), (q**2).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["k"].diagonal.numpy(), (k**2).mean(0), rtol=1e-6)


def test_inputs_of_a_low_rank_pair_are_those_of_both_its_factors() -> None:
    model, data = Model(), batches()
    rights = {}

    def given(name: str, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        return (batch["tokens"], batch["attention_mask"]) if name == "k" else (batch["images"], None)

    for name, rank in (("k", 2), ("conv", 3)):
        unit = by_name(model)[name]
        u, s, v = torch.linalg.svd(unit.read().dense(), full_matrices=False)
        rights[name] = v[:rank].double().numpy()
        unit.write(Form(left=u[:, :rank] * s[:rank], right=v[:rank], bias=unit.read().bias))
    found = input_moments(model, find_units(model.module), data)
    for name, right in rights.items():
        module = model.module[name]
        rows = [part[0] for batch in data for part in input_rows(module, *given(name, batch))]
        inner = (torch.cat(rows).double().numpy() @ right.T) ** 2
        np.testing.assert_allclose(found[name].inner.numpy(), inner.mean(0), rtol=1e-4)
    assert found["q"].inner is None
    assert torch.equal(found["k"].diagonal, found["q"].diagonal)


def test_a_unit_that_never_runs_is_told_of_and_not_fatal() -> None:
    model = Model()
    found = input_moments(model, find_units(model.module), batches(1))
    assert not found["idle"].fired
    assert (found["idle"].samples, found["q"].samples) == (0, 5)
    assert "no calibration batch reached it" in found["idle"].note
    assert found["q"].note == found["conv"].note == ""


def test_inputs_that_are_not_finite_are_named() -> None:
    model, data = Model(), batches()
    data[1]["tokens"][0, 0, 0] = float("nan")
    with pytest.raises(WorkError, match=r"inputs of q hold a NaN"):
        input_moments(model, find_units(model.module), data)


def test_the_model_is_left_as_it_was_and_the_same_comes_out_again() -> None:
    model, data = Model(), batches()
    model.module.train()
    first, second = (input_moments(model, find_units(model.module), data) for _ in range(2))
    assert all(torch.equal(first[name].diagonal, second[name].diagonal) for name in first)
    assert model.module.training
    assert not any(module._forward_pre_hooks for module in model.module.modules())


class Tied(Model):
    """Two linear layers of one weight, given different inputs."""

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"a": nn.Linear(6, 6, bias=False), "b": nn.Linear(6, 6, bias=False)})
        self.module["b"].weight = self.module["a"].weight

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"text": self.module["b"](self.module["a"](batch["tokens"]))}


def test_a_tied_weight_counts_the_inputs_of_all_its_modules() -> None:
    model, data = Tied(), batches(2, masked=False)
    found = input_moments(model, find_units(model.module), data)
    first = np.concatenate([batch["tokens"].reshape(-1, 6).double().numpy() for batch in data])
    both = np.concatenate([first, first @ model.module["a"].weight.detach().double().numpy().T])
    assert found["a"].samples == len(both)
    np.testing.assert_allclose(found["a"].diagonal.numpy(), (both**2).mean(0), rtol=1e-5)
