"""Adapters of bare modules: what is taken, and what is refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from toys.language import CASES

import rcc
from rcc.errors import UserError
from rcc.layers.copying import deep_copy
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.dare import DARECompressor
from rcc.stages.nullu import NulluProjector


@pytest.mark.parametrize(
    ("build", "given"),
    [
        (lambda: nn.Linear(8, 6), torch.randn(4, 8)),
        (lambda: nn.Conv2d(3, 6, 3), torch.randn(2, 3, 5, 5)),
        (lambda: nn.MultiheadAttention(8, 2), torch.randn(5, 2, 8)),
    ],
    ids=["linear", "conv", "attention"],
)
def test_a_model_that_is_one_layer_is_compressed_in_place_and_reloads(build, given, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build()
    adapter = ModuleAdapter(net)
    report = NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None).apply(adapter, StageContext())
    assert set(report.touched) <= {"layer", "q_proj", "k_proj", "v_proj", "out_proj"}
    rcc.save(adapter, tmp_path / "artifact")
    skeleton = build()
    again = rcc.load(tmp_path / "artifact", skeleton=skeleton)
    inputs = (given,) * (3 if isinstance(net, nn.MultiheadAttention) else 1)
    for module in (skeleton, again.module, adapter.module):
        found, expected = module(*inputs), net(*inputs)
        assert torch.equal(*(each[0] if isinstance(each, tuple) else each for each in (found, expected)))


def test_the_batch_of_one_layer_has_the_layers_own_names() -> None:
    net = nn.Linear(3, 2)
    outputs = ModuleAdapter(net).outputs({"input": torch.ones(1, 3)})
    assert torch.equal(outputs["output"], net(torch.ones(1, 3)))


def test_lazy_modules_are_refused_until_they_ran() -> None:
    net = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2))
    with pytest.raises(UserError, match=r"0\.bias, 0\.weight of lazy modules are uninitialized: run one forward first"):
        ModuleAdapter(net)
    net(torch.ones(1, 4))
    assert [unit.name for unit in ModuleAdapter(net).units()] == ["0", "1"]


def test_tensors_on_several_devices_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(nn.Parameter):
        device = torch.device("cuda", 1)

    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = Elsewhere(torch.ones(2, 2))
    with pytest.raises(UserError, match=r"several devices \(0\.weight on cpu, 1\.weight on cuda:1\)"):
        ModuleAdapter(net)


def test_a_parameter_without_values_beside_others_has_their_device() -> None:
    net = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    assert ModuleAdapter(net).device == torch.device("cpu")


def weight_norms() -> dict[str, nn.Module]:
    masked = nn.Linear(32, 32)
    prune.l1_unstructured(masked, "weight", 0.5)
    biased = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32), "bias", dim=None)
    return {
        "weight_norm": nn.utils.parametrizations.weight_norm(nn.Linear(32, 32)),
        "old weight_norm": nn.utils.weight_norm(nn.Linear(32, 32)),
        "spectral_norm": nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)),
        "old spectral_norm": nn.utils.spectral_norm(nn.Linear(32, 32)),
        "pruned": masked,
        "bias": biased,
    }


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("kind", weight_norms())
def test_a_layer_whose_weight_is_computed_is_left_and_the_rest_goes_on(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), weight_norms()[kind], nn.Linear(32, 4)).eval()
    skeleton, x = deep_copy(net), torch.randn(5, 8)
    for parameter in skeleton.parameters():
        nn.init.zeros_(parameter)
    matrices = sum(parameter.numel() for parameter in net.parameters() if parameter.dim() > 1)
    adapter = ModuleAdapter(net)
    context = StageContext(calibration=[{"input": torch.randn(16, 8)}])
    report = DARECompressor(target_sparsity=0.5, solver="admm").apply(adapter, context)
    assert set(report.touched) == {"0", "2"}
    assert sum(report.account(adapter).values()) == matrices
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert reasons["1"] == "its weight is computed by a parametrisation"
    rcc.save(adapter, tmp_path / "artifact")
    rcc.load(tmp_path / "artifact", skeleton=skeleton)
    assert torch.equal(skeleton(x), net(x))


def test_hooks_run_on_layers_of_every_structure_and_after_a_reload(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).eval()
        net[0].register_forward_hook(lambda _, given, output: output * 2)
        net[2].register_forward_pre_hook(lambda _, args, kwargs: ((args[0] + 1,), kwargs), with_kwargs=True)
        return net

    net, skeleton, x = build(), build(), torch.randn(3, 16)
    adapter = ModuleAdapter(net)
    NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None).apply(adapter, StageContext())
    rcc.save(adapter, tmp_path / "artifact")
    rcc.load(tmp_path / "artifact", skeleton=skeleton)
    first, last = (net[index].weight @ given + net[index].bias for index, given in ((0, x[0]), (2, torch.zeros(32))))
    inner = torch.tanh(2 * first)
    torch.testing.assert_close(net(x[:1])[0], net[2].weight @ (inner + 1) + last)
    assert torch.equal(skeleton(x), net(x))


def test_a_layer_that_is_also_in_a_plain_list_runs_what_was_written() -> None:
    class Walks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            self.order = [self.first, self.second]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    torch.manual_seed(0)
    net, x = Walks(), torch.randn(3, 8)
    NulluProjector(rank_reduction_ratio=0.5, energy_threshold=None).apply(ModuleAdapter(net), StageContext())
    assert net.order == [net.first, net.second]
    assert torch.equal(net(x), net.second(net.first(x)))


def test_a_buffer_without_values_in_model_and_artifact_is_refused_by_name(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("frequencies", torch.arange(4.0), persistent=False)

    rcc.save(ModuleAdapter(Scaled()), tmp_path / "artifact")
    with torch.device("meta"):
        skeleton = Scaled()
    with pytest.raises(UserError, match="no values for frequencies: buffers that are not persistent are in no file"):
        rcc.load(tmp_path / "artifact", skeleton=skeleton)
    assert skeleton.layer.weight.is_meta
    skeleton.frequencies = torch.arange(4.0)
    rcc.load(tmp_path / "artifact", skeleton=skeleton)
    assert not skeleton.layer.weight.is_meta


def test_what_counts_as_the_output_is_named_and_a_wrong_name_lists_what_there_is() -> None:
    build, batch, _ = CASES["bert"]
    assert list(ModuleAdapter(build(), outputs="pooler_output").outputs(batch)) == ["pooler_output"]
    both = ModuleAdapter(build(), outputs=["pooler_output", "last_hidden_state"])
    assert list(both.outputs(batch)) == ["pooler_output", "last_hidden_state"]
    with pytest.raises(UserError) as error:
        ModuleAdapter(build(), outputs="pooled_output").outputs(batch)
    assert str(error.value) == (
        "the output 'pooled_output' was asked for and BertModel gives last_hidden_state [4, 8, 16], pooler_output"
        " [4, 16]. Did you mean 'pooler_output'?"
    )
