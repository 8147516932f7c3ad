"""A model in memory and the artifact written of it put out the same, or the difference is an error with a place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rcc.artifact.manifest import read_manifest
from rcc.artifact.reloading import TOLERANCE, Answers, answers, check_reloaded, refuse_difference, round_as_stored
from rcc.artifact.write import write_artifact
from rcc.cascade.pipeline import RCCPipeline
from rcc.errors import WorkError
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import Stage
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.nullu.projector import NulluProjector
from rcc.stages.quant.quantizer import Quantizer


class Walker(nn.Module):
    """Its forward walks a plain list of the layers that it has registered."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = nn.Linear(12, 32), nn.Linear(32, 24), nn.Linear(24, 6)
        self.register_buffer("offset", torch.zeros(6), persistent=False)
        self.walked = [self.one, self.two, self.three]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.walked:
            x = torch.tanh(layer(x))
        return x + self.offset


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return {"x": torch.randn(16, 12, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", None])
@pytest.mark.parametrize(
    "stages",
    [
        [DARECompressor(0.5, solver="admm")],
        [NulluProjector(0.5, energy_threshold=None, metric="calibration")],
        [NulluProjector(0.6, energy_threshold=None), DARECompressor(0.3, solver="none"), Quantizer(4)],
    ],
    ids=["dare", "nullu", "nullu+dare+quant"],
)
def test_a_forward_that_walks_a_list_of_layers_reloads_to_the_same_outputs(
    tmp_path: Path, batch: dict[str, Tensor], stages: list[Stage], dtype: str | None
) -> None:
    model = RCCPipeline(stages, performance_threshold=0.01).run(Walker().eval(), lambda adapter: 1.0, [batch])
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    write_artifact(model, tmp_path / "artifact", dtype=dtype)
    check_reloaded(model, tmp_path / "artifact", batch, skeleton=Walker())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_a_layer_that_runs_and_is_not_the_one_written_is_an_error_that_names_it(
    tmp_path: Path, batch: dict[str, Tensor]
) -> None:
    model = ModuleAdapter(Walker().eval())
    model.module.two = nn.Linear(32, 24)  # the list goes on holding the layer that was there
    write_artifact(model, tmp_path / "artifact")
    with pytest.raises(WorkError, match=r"output 'output' differs by up to .*Layer two ran after reloading and not in"):
        check_reloaded(model, tmp_path / "artifact", batch, skeleton=Walker())


def test_a_tensor_that_no_artifact_holds_is_found_outside_the_layers(tmp_path: Path, batch: dict[str, Tensor]) -> None:
    model = ModuleAdapter(Walker().eval())
    model.module.offset.fill_(1.0)
    write_artifact(model, tmp_path / "artifact")
    with pytest.raises(WorkError, match=r"differs by up to 1,.*arises outside them.*persistent=False"):
        check_reloaded(model, tmp_path / "artifact", batch, skeleton=Walker())


def test_outputs_given_as_a_function_over_the_network_are_compared_on_the_reloaded_one(
    tmp_path: Path, batch: dict[str, Tensor]
) -> None:
    net = Walker().eval()
    model = ModuleAdapter(net, outputs=lambda batch: {"logits": net(batch["x"])})
    write_artifact(model, tmp_path / "artifact", dtype="float16")
    check_reloaded(model, tmp_path / "artifact", batch, skeleton=Walker())
    with torch.no_grad():
        net.two.weight.mul_(1.5)
    with pytest.raises(WorkError, match=r"output 'logits' differs.*The first layer to differ is two"):
        check_reloaded(model, tmp_path / "artifact", batch, skeleton=Walker())


def test_rounding_gives_exactly_the_values_that_are_read_back(tmp_path: Path, batch: dict[str, Tensor]) -> None:
    model = RCCPipeline([Quantizer(4)], performance_threshold=0.01).run(Walker().eval(), lambda _: 1.0, [batch])
    write_artifact(model, tmp_path / "artifact", dtype="float16")
    round_as_stored(model.module, read_manifest(tmp_path / "artifact"))
    import rcc

    loaded = rcc.load(tmp_path / "artifact", skeleton=Walker()).module.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.module.state_dict().items())


def test_what_the_order_of_sums_may_do_passes_and_no_more(batch: dict[str, Tensor]) -> None:
    one = answers(ModuleAdapter(Walker().eval()), batch)
    assert list(one.layers) == ["one", "two", "three"]
    largest = one.outputs["output"].abs().max()
    for share, refused in ((0.5, False), (2.0, True)):
        other = dataclasses.replace(one, outputs={"output": one.outputs["output"] + share * TOLERANCE * largest})
        if refused:
            with pytest.raises(WorkError, match="differs by up to"):
                refuse_difference(one, other, "artifact")
        else:
            refuse_difference(one, other, "artifact")


def test_equal_infinities_do_not_differ_and_a_nan_on_one_side_does() -> None:
    masked = Answers({"out": torch.tensor([1.0, -torch.inf])}, {})
    refuse_difference(masked, masked, "artifact")
    with pytest.raises(WorkError, match="differs"):
        refuse_difference(masked, Answers({"out": torch.tensor([1.0, torch.nan])}, {}), "artifact")
    with pytest.raises(WorkError, match=r"puts out 'out' \(2,\), the reloaded one no such output"):
        refuse_difference(masked, Answers({}, {}), "artifact")
