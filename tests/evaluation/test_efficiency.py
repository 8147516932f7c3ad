"""Costs of a model: exact counts by hand, what depends on the stored form, and times of two models in turns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.artifact.size import model_size
from rcc.data.sets.digits import load_digits
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.evaluation.efficiency import EfficiencyEvaluator
from rcc.evaluation.registry import CostEvaluator, load_evaluator
from rcc.layers.form import Form
from rcc.layers.modules import FormLinear
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper
from rcc.runtime.optimise import optimise

WIDTH, HEADS, HIDDEN, TOKENS = 16, 4, 64, 9
LINEAR = 2 * TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN)
ATTENTION = 2 * 2 * TOKENS * TOKENS * WIDTH  # q kᵀ and its product with v
NORM_ZEROS = 2 * WIDTH  # biases of the norms
PATCHES = 2 * TOKENS * WIDTH * 3 * 16
"""Operations of one 12 × 12 image: a block of a vision transformer on 3 × 3 patches of 4 × 4 pixels."""


class OneBlock(nn.Module):
    """A vision transformer of one block: patches, attention, MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.fc1: nn.Module = nn.Linear(WIDTH, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, WIDTH)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        heads = (layer(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norms[1](x))))


def adapter_of(module: nn.Module) -> ModuleAdapter:
    """The module on a 12 × 12 image for each image there is, whatever it shows."""
    return ModuleAdapter(
        module, prepare=lambda images, texts: {"pixel_values": torch.ones(len(images or ()), 3, 12, 12)}
    )


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_digits(train=10, calibration=10, selection=20, test=12)


def costs(model: ModuleAdapter, few: Splits) -> dict[str, float]:
    measured = EfficiencyEvaluator(batch_size=4, seconds=0).evaluate(model, few.test, few)
    return {metric.name: metric.value for metric in measured.metrics}


def test_a_vision_transformers_block_has_the_operations_counted_by_hand(few: Splits) -> None:
    found = costs(adapter_of(OneBlock()), few)
    assert found["executed_flops"] == found["theoretical_flops"] == PATCHES + LINEAR + ATTENTION
    block = OneBlock()
    assert found["parameters"] == found["nonzeros"] + NORM_ZEROS == sum(each.numel() for each in block.parameters())


def test_a_pruned_layer_saves_operations_in_theory_alone(few: Splits) -> None:
    block = OneBlock()
    block.fc2.weight.data.flatten()[:900] = 0
    found = costs(adapter_of(block), few)
    assert found["executed_flops"] == PATCHES + LINEAR + ATTENTION
    assert found["theoretical_flops"] == found["executed_flops"] - 2 * TOKENS * 900
    assert found["parameters"] - found["nonzeros"] == 900 + NORM_ZEROS


def test_a_factored_layer_executes_two_products(few: Splits) -> None:
    block = OneBlock()
    left, right = torch.ones(HIDDEN, 5), torch.ones(5, WIDTH)
    right[0, :7] = 0
    block.fc1 = FormLinear(Form(left=left, right=right, bias=torch.ones(HIDDEN)))
    found = costs(adapter_of(block), few)
    pair = 2 * TOKENS * 5 * (WIDTH + HIDDEN)
    assert found["executed_flops"] == PATCHES + LINEAR + ATTENTION - 2 * TOKENS * WIDTH * HIDDEN + pair
    assert found["theoretical_flops"] == found["executed_flops"] - 2 * TOKENS * 7


def test_every_cost_has_a_unit_a_direction_and_an_error_where_it_is_taken(clip: CLIPWrapper, few: Splits) -> None:
    measured = EfficiencyEvaluator(batch_size=8, seconds=0.05).evaluate(clip, few.test, few)
    found = {metric.name: (metric.unit, metric.higher_is_better) for metric in measured.metrics}
    assert found == {
        "stored_bytes": ("bytes", False),
        "parameters": ("parameters", False),
        "nonzeros": ("parameters", False),
        "theoretical_flops": ("FLOPs", False),
        "executed_flops": ("FLOPs", False),
        "latency_p50_batch_1": ("s", False),
        "latency_p95_batch_1": ("s", False),
        "throughput_batch_1": ("items/s", True),
        "latency_p50_batch_8": ("s", False),
        "latency_p95_batch_8": ("s", False),
        "throughput_batch_8": ("items/s", True),
        "peak_memory": ("bytes", False),
    }
    assert measured.primary == "latency_p50_batch_8"
    assert measured["stored_bytes"].value == model_size(clip, torch.float16).nbytes
    assert measured["throughput_batch_8"].value == pytest.approx(8 / measured["latency_p50_batch_8"].value)
    assert measured["latency_p50_batch_8"].standard_error is not None
    assert measured["stored_bytes"].standard_error is None
    assert f"{torch.get_num_threads()} thread" in measured.details["note"]
    assert len(measured.details["seconds"]["8"]["own"]) >= 5


def test_a_split_smaller_than_the_batch_gives_its_own_length(clip: CLIPWrapper, few: Splits) -> None:
    measured = EfficiencyEvaluator(seconds=0).evaluate(clip, few.test.take(3), few)
    assert measured.primary == "latency_p50_batch_3"
    alone = EfficiencyEvaluator(seconds=0).evaluate(clip, few.test.take(1), few)
    assert [metric.name for metric in alone.metrics if "batch" in metric.name] == [
        "latency_p50_batch_1",
        "latency_p95_batch_1",
        "throughput_batch_1",
    ]


def test_two_models_take_turns_and_the_speed_up_is_the_median_ratio(clip: CLIPWrapper, few: Splits) -> None:
    measured = EfficiencyEvaluator(batch_size=2, seconds=0).evaluate(clip, few.test, few, beside=clip)
    own, beside = measured.details["seconds"]["2"].values()
    assert len(own) == len(beside) >= 5
    ratios = torch.tensor(beside, dtype=torch.float64) / torch.tensor(own, dtype=torch.float64)
    assert measured["speedup_batch_2"].value == pytest.approx(float(ratios.quantile(0.5)))
    assert measured["speedup_batch_2"].higher_is_better


def test_what_is_stored_is_counted_before_kernels_take_its_place(clip: CLIPWrapper, few: Splits) -> None:
    for parameter in clip.module.parameters():
        if parameter.dim() == 2:
            parameter.data[:, ::2] = 0
    evaluator = EfficiencyEvaluator(batch_size=4, seconds=0)
    before = evaluator.evaluate(clip, few.test, few)
    evaluator.measure_before_optimising(clip, few.test)
    optimise(clip, clip.prepare(list(few.test.images[0:4]), few.test.texts[:4]), "csr")
    after = evaluator.evaluate(clip, few.test, few)
    for name in ("stored_bytes", "parameters", "nonzeros", "theoretical_flops"):
        assert after[name] == before[name]
    assert after["executed_flops"].value < before["executed_flops"].value


def test_both_models_are_timed_in_evaluation_mode_and_left_in_training(clip: CLIPWrapper, few: Splits) -> None:
    modes = []
    other = adapter_of(OneBlock())
    for model in (clip, other):
        model.module.train()
        model.module.register_forward_hook(lambda module, *_: modes.append(module.training))
    EfficiencyEvaluator(batch_size=2, seconds=0).evaluate(clip, few.test, few, beside=other)
    assert modes
    assert not any(modes)
    assert clip.module.training
    assert other.module.training


def test_wrong_options_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_evaluator("efficiency", batch_size=0, seconds=-1, dtype="float61")
    assert [problem.split(".")[0] for problem in caught.value.problems] == [
        "eval 'efficiency': batch_size is 0; it must be a whole number from 1 up",
        "eval 'efficiency': seconds is -1; it must be a number from 0 up",
        "eval 'efficiency': unknown dtype 'float61'",
    ]
    assert isinstance(load_evaluator("efficiency"), CostEvaluator)
    assert not isinstance(load_evaluator("zero_shot"), CostEvaluator)
