"""Sensitivities against exact Jacobians, against noise that was put in and measured, and over many draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.calibration import sensitivity
from rcc.calibration.sensitivity import Sensitivity, sensitivities
from rcc.layers.form import Form
from rcc.layers.units import Unit, find_units
from rcc.ops.quadratic import shrunk


class Net:
    """Images through a convolution and tokens through two layers, to two named outputs; `idle` never runs."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.module = nn.ModuleDict(
                {
                    "conv": nn.Conv2d(2, 3, 2),
                    "first": nn.Linear(4, 6),
                    "drop": nn.Dropout(0.5),
                    "second": nn.Linear(6, 5, bias=False),
                    "idle": nn.Linear(3, 3),
                }
            ).double()

    def units(self) -> list[Unit]:
        return find_units(self.module)

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        part = self.module
        hidden = part["drop"](torch.tanh(part["first"](batch["tokens"])))
        mask = batch.get("attention_mask", torch.ones(batch["tokens"].shape[:2])).double()[..., None]
        return {
            "image": part["conv"](batch["images"]).tanh().sum((2, 3)),
            "text": (part["second"](hidden) * mask).sum(1),
        }


def batch(size: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randn(size, 2, 3, 3, generator=generator, dtype=torch.float64),
        "tokens": torch.randn(size, 2, 4, generator=generator, dtype=torch.float64),
    }


def found(model: Net, given: list[dict[str, Tensor]], seed: int = 0, items: int = 64) -> dict[str, Sensitivity]:
    return sensitivities(model, model.units(), given, torch.Generator().manual_seed(seed), items)


def outputs_of(model: Net, name: str, given: dict[str, Tensor]) -> Tensor:
    """What the unit puts out on `given`, its channels last."""
    seen: list[Tensor] = []
    handle = model.module.get_submodule(name).register_forward_hook(lambda _, __, output: seen.append(output))
    model.module.eval()
    model.outputs(given)
    handle.remove()
    return seen[0].detach()


def with_outputs(model: Net, name: str, given: dict[str, Tensor], output: Tensor) -> Tensor:
    """The model's normalised outputs, side by side, when the unit puts out `output` instead."""
    handle = model.module.get_submodule(name).register_forward_hook(lambda *_: output)
    model.module.eval()
    answers = model.outputs(given)
    handle.remove()
    return torch.cat([F.normalize(answer, dim=-1) for answer in answers.values()], -1)


def repeated(given: dict[str, Tensor], times: int) -> dict[str, Tensor]:
    return {key: value.repeat(times, *[1] * (value.dim() - 1)) for key, value in given.items()}


def drawn(model: Net, given: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """The mean of the rows over 1,200 draws for each item, and its standard error, which 40 parts of them tell."""
    many = repeated(given, 30)
    draws = torch.stack([found(model, [many], seed)[name].rows for seed in range(40)])
    return draws.mean(0), draws.std(0) / len(draws) ** 0.5


def inputs_of(name: str, given: dict[str, Tensor], model: Net) -> Tensor:
    """What the unit is given, (items, places, in), a place of the kernel a row."""
    if name == "conv":
        return F.unfold(given["images"], 2).transpose(1, 2)
    return given["tokens"] if name == "first" else torch.tanh(outputs_of(model, "first", given))


def places_last(name: str, output: Tensor) -> Tensor:
    """An output as (items, places, out), or a Jacobian by it with what it is the Jacobian of before these."""
    return output.flatten(-2).transpose(-1, -2) if name == "conv" else output


def exact(model: Net, name: str, given: dict[str, Tensor]) -> Tensor:
    """The rows by their definition, from the whole Jacobian: ‖Σₚ J(p) (x(p) − x̄)‖² over outputs, a mean over items,
    over the trace of the covariance of the inputs."""
    output = outputs_of(model, name, given)
    jacobian = torch.autograd.functional.jacobian(lambda y: with_outputs(model, name, given, y), output)
    inputs = inputs_of(name, given, model)
    apart = inputs - inputs.mean((0, 1))
    by_weight = torch.einsum("aebpo,bpi->aboei", places_last(name, jacobian), apart)
    items = torch.arange(len(output))
    return by_weight[items, items].square().sum((2, 3)).mean(0) / apart.square().sum(2).mean()


@pytest.mark.parametrize("name", ["conv", "first", "second"])
def test_the_mean_over_many_draws_is_what_the_exact_jacobian_gives(name: str) -> None:
    model, given = Net(), batch()
    mean, error = drawn(model, given, name)
    wanted = exact(model, name, given)
    assert bool(((mean - wanted).abs() <= 4 * error).all())
    assert float(error.max()) < 0.1 * float(wanted.max())


@pytest.mark.parametrize("name", ["conv", "first", "second"])
def test_the_weight_foretells_how_far_errors_of_the_weight_move_the_outputs(name: str) -> None:
    model, given = Net(), batch()
    rows, _ = drawn(model, batch(), name)
    inputs, output = inputs_of(name, given, model), outputs_of(model, name, given)
    apart = inputs - inputs.mean((0, 1))
    covariance = torch.einsum("bpi,bpj->ij", apart, apart) / apart[..., 0].numel()
    generator, moved, foretold = torch.Generator().manual_seed(1), [], []
    for _ in range(400):
        change = 1e-4 * torch.randn(len(rows), apart.shape[2], generator=generator, dtype=torch.float64)
        shifted = places_last(name, output) + apart @ change.T
        after = with_outputs(
            model, name, given, shifted.transpose(1, 2).reshape(output.shape) if name == "conv" else shifted
        )
        # Two normalised outputs side by side: 1 − cos of each is half its squared distance.
        before = with_outputs(model, name, given, output)
        moved.append(0.5 * float((after - before).detach().square().sum(-1).mean()))
        foretold.append(0.5 * float((rows * (change @ covariance * change).sum(1)).sum()))
    assert sum(moved) == pytest.approx(sum(foretold), rel=0.15)


def test_the_rows_of_an_embedding_are_those_of_its_tokens() -> None:
    class Looking(Net):
        def __init__(self) -> None:
            self.module = nn.ModuleDict({"table": nn.Embedding(5, 3), "out": nn.Linear(3, 4)}).double()

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"text": self.module["out"](self.module["table"](batch["ids"]).tanh().sum(1))}

    model, ids = Looking(), torch.tensor([[0, 1, 1], [0, 2, 2]])
    draws = [found(model, [{"ids": ids.repeat(60, 1)}], seed, 120)["table"] for seed in range(20)]
    mean, columns = (
        torch.stack([one.rows for one in draws]).mean(0),
        torch.stack([one.columns for one in draws]).mean(0),
    )
    weight = model.module["table"].weight.detach().clone()

    def outputs(table: Tensor) -> Tensor:
        return F.normalize(model.module["out"](table[ids].tanh().sum(1)), dim=-1)

    jacobian = torch.autograd.functional.jacobian(outputs, weight)
    wanted = jacobian.square().sum((1, 3)).mean(0) / 3
    torch.testing.assert_close(mean[:3], wanted[:3], rtol=0.1, atol=0.0)
    # Tokens 3 and 4 were never seen. None was seen once only: together they count as one that was.
    assert mean[3] == mean[4]
    assert float(mean[3]) == pytest.approx(float(mean[:3].sum()) / 240 / 2, rel=1e-6)
    # Errors of columns go together as gradients of the rows do, but for what so few of them leave unsure.
    gradients = jacobian.reshape(-1, 3)
    products = gradients.T @ gradients
    wanted = shrunk(products / products.diagonal().mean(), (240 * 120) ** 0.5)[0]
    torch.testing.assert_close(columns, wanted, rtol=0.1, atol=0.05)


def test_tokens_that_were_not_found_count_together_as_those_found_in_one_item() -> None:
    class Summing(Net):
        def __init__(self) -> None:
            self.module = nn.ModuleDict({"table": nn.Embedding(6, 3)}).double()

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"text": self.module["table"](batch["ids"]).tanh().sum(1)}

    one = found(Summing(), [{"ids": torch.tensor([[0, 1], [0, 2], [0, 0]])}])["table"]
    torch.testing.assert_close(one.rows[3:], ((one.rows[1] + one.rows[2]) / 3).expand(3))


def test_variance_and_energy_are_those_of_the_outputs_about_their_mean() -> None:
    model, given = Net(), [batch(seed=1), batch(size=2, seed=2)]
    for name in ("conv", "first", "second"):
        values = [outputs_of(model, name, one) for one in given]
        flat = torch.cat([v.movedim(1 if name == "conv" else -1, -1).flatten(0, -2) for v in values])
        one = found(model, given)[name]
        torch.testing.assert_close(one.variance, flat.var(0, correction=0))
        assert one.energy == pytest.approx(float(flat.var(0, correction=0).sum()))
        assert one.weight == pytest.approx(0.5 * float(one.rows.sum()) * one.energy / len(one.rows))


def test_padding_counts_neither_in_the_variance_nor_in_the_gradients() -> None:
    model, given = Net(), batch()
    mask = torch.tensor([[1, 1], [1, 0], [1, 0]])
    padded = {**given, "attention_mask": mask, "tokens": given["tokens"].masked_fill(mask[..., None] == 0, 1e3)}
    values = outputs_of(model, "first", given)[mask != 0]
    one = found(model, [padded])["first"]
    torch.testing.assert_close(one.variance, values.var(0, correction=0))
    other = found(model, [{**padded, "tokens": padded["tokens"] * (1 + 8 * (mask[..., None] == 0))}])["first"]
    torch.testing.assert_close(one.rows, other.rows)


def test_a_unit_called_twice_counts_with_both_calls() -> None:
    class Twice(Net):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            first = self.module["first"]
            return {"sum": first(batch["tokens"][:, 0]) + first(2 * batch["tokens"][:, 1])}

    model, given = Twice(), batch()
    sums = model.outputs(given)["sum"].detach()
    jacobian = torch.autograd.functional.jacobian(lambda y: F.normalize(y, dim=-1), sums)
    gradients = jacobian[torch.arange(len(sums)), :, torch.arange(len(sums))].square().sum(1)  # the same at either call
    inputs = given["tokens"] * torch.tensor([1.0, 2.0])[:, None]
    apart = (inputs - inputs.mean((0, 1))).square().sum(2)
    wanted = (gradients[:, None] * apart[..., None]).sum(1).mean(0) / apart.mean()
    mean, error = drawn(model, given, "first")
    assert bool(((mean - wanted).abs() <= 4 * error).all())
    both = torch.cat([model.module["first"](given["tokens"][:, 0]), model.module["first"](2 * given["tokens"][:, 1])])
    torch.testing.assert_close(found(model, [given])["first"].variance, both.detach().var(0, correction=0))


def test_tied_layers_count_under_the_first_name() -> None:
    class Tied(Net):
        def __init__(self) -> None:
            self.module = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)}).double()
            self.module["b"].weight = self.module["a"].weight

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"out": self.module["b"](batch["tokens"]).sum(1)}

    model = Tied()
    one = found(model, [batch()])
    assert list(one) == ["a"]
    assert one["a"].weight > 0


def test_a_unit_that_never_runs_is_absent_and_one_nobody_reads_has_rows_of_zero() -> None:
    class Deaf(Net):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            self.module["first"](batch["tokens"])
            return {"image": self.module["conv"](batch["images"]).sum((2, 3))}

    one = found(Deaf(), [batch()])
    assert set(one) == {"conv", "first"}
    assert (one["first"].weight, one["first"].energy > 0) == (0.0, True)


def test_outputs_that_depend_on_no_unit_have_no_sensitivities() -> None:
    class Constant(Net):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"image": batch["images"].flatten(1)}

    assert found(Constant(), [batch()]) == {}


def test_the_way_a_weight_is_held_does_not_matter() -> None:
    model, given = Net(), batch()
    dense = found(model, [given])
    unit = next(unit for unit in model.units() if unit.name == "first")
    form = unit.read()
    u, s, v = torch.linalg.svd(form.dense().detach(), full_matrices=False)
    unit.write(Form(left=u * s, right=v, bias=form.bias))
    for name, one in found(model, [given]).items():
        torch.testing.assert_close(one.rows, dense[name].rows)


def test_the_generator_decides_the_draw_and_enough_items_are_looked_at() -> None:
    model, given = Net(), [batch(seed=seed) for seed in range(4)]
    again = [found(model, given, seed)["first"].rows for seed in (5, 5, 6)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])
    torch.testing.assert_close(found(model, given, items=4)["first"].rows, found(model, given[:2])["first"].rows)


@pytest.mark.parametrize("size", [7, 12])
def test_a_batch_gives_the_same_in_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = Net(), {**batch(size), "attention_mask": torch.ones(size, 2, dtype=torch.int64)}
    parted = found(model, [given])
    monkeypatch.setattr(sensitivity, "PART", size)
    for name, one in found(model, [given]).items():
        torch.testing.assert_close(parted[name].rows, one.rows)
        torch.testing.assert_close(parted[name].variance, one.variance)


def test_no_more_items_than_a_part_go_forward_at_once() -> None:
    class Counting(Net):
        sizes: list[int] = []  # noqa: RUF012

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            self.sizes.append(len(batch["tokens"]))
            return super().outputs(batch)

    model = Counting()
    found(model, [batch(10)])
    # For the shapes of the outputs, for the spread of inputs, for the gradients.
    assert model.sizes == [4, 4, 4, 2, 4, 4, 2]


@pytest.mark.parametrize("reason", ["an output without a row for each item", "an input without one"])
def test_a_batch_that_cannot_be_parted_stays_whole(reason: str) -> None:
    class Whole(Net):
        sizes: list[int] = []  # noqa: RUF012

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            self.sizes.append(len(batch["tokens"]))
            outputs = super().outputs(batch)
            return {"all": outputs["text"].sum(1)} if "output" in reason else outputs

    model, given = Whole(), batch(6)
    if "input" in reason:
        given["temperature"] = torch.ones(1)
    found(model, [given])
    assert model.sizes[-1] == 6


def test_nothing_is_left_behind() -> None:
    model = Net()
    model.module.train()
    model.module["first"].weight.requires_grad_(False)
    with torch.no_grad():
        found(model, [batch()])
    assert model.module.training
    assert not model.module["first"].weight.requires_grad
    assert model.module["conv"].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert not any(module._forward_hooks for module in model.module.modules())
