"""The dense model's outputs: taken without dropout or gradients, written, read back bit for bit, compared."""

import pytest
import torch
from torch import nn

from rcc.calibration.targets import dense_outputs, output_distance, read_targets, write_targets
from rcc.errors import WorkError


class Model:
    def __init__(self):
        self.module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()

    def outputs(self, batch):
        embedding = self.module(batch["x"])
        return {"embedding": embedding, "transposed": embedding.T}


BATCHES = [{"x": torch.randn(size, 3, generator=torch.Generator().manual_seed(size))} for size in (5, 2)]


def test_outputs_are_taken_in_evaluation_mode_and_detached():
    model = Model()
    targets = dense_outputs(model, BATCHES)
    assert [target["embedding"].shape for target in targets] == [(5, 4), (2, 4)]
    expected = model.module[0](BATCHES[0]["x"])
    assert torch.equal(targets[0]["embedding"], expected)
    assert not targets[0]["embedding"].requires_grad
    assert model.module.training


def test_targets_are_read_back_bit_for_bit(tmp_path):
    targets = [*dense_outputs(Model(), BATCHES), {}]
    write_targets(tmp_path / "targets.safetensors", targets)
    found = read_targets(tmp_path / "targets.safetensors")
    assert [list(target) for target in found] == [["embedding", "transposed"], ["embedding", "transposed"], []]
    for target, other in zip(targets, found, strict=True):
        assert all(torch.equal(target[name], other[name]) for name in target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["targets.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_missing_or_damaged_file_is_an_error_that_says_what_to_do(tmp_path, content):
    path = tmp_path / "targets.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkError, match="Delete the file"):
        read_targets(path)


def test_a_truncated_file_is_an_error(tmp_path):
    path = tmp_path / "targets.safetensors"
    write_targets(path, dense_outputs(Model(), BATCHES))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WorkError, match="cannot be read"):
        read_targets(path)


def test_the_distance_is_the_mean_over_outputs_of_one_minus_cosine():
    targets = {"a": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "b": torch.tensor([[1.0, 1.0]])}
    outputs = {"a": torch.tensor([[3.0, 0.0], [5.0, 0.0]]), "b": torch.tensor([[-1.0, -1.0]])}
    assert float(output_distance(outputs, targets)) == pytest.approx(((0 + 1) / 2 + 2) / 2)
    assert float(output_distance(targets, targets)) == pytest.approx(0, abs=1e-6)


def test_what_is_zero_in_the_target_does_not_count():
    targets = {"a": torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]])}
    outputs = {"a": torch.tensor([[[1.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [0.0, 1.0]]])}
    assert float(output_distance(outputs, targets)) == pytest.approx((0 + 1 + 0) / 3)
    assert float(output_distance(targets, targets)) == pytest.approx(0, abs=1e-6)


def test_an_output_of_one_number_per_item_is_one_vector():
    target, output = {"score": torch.tensor([1.0, 0.0])}, {"score": torch.tensor([1.0, 1.0])}
    assert float(output_distance(output, target)) == pytest.approx(1 - 2**-0.5)


def test_targets_of_another_model_or_batch_are_refused():
    with pytest.raises(WorkError, match="another model"):
        output_distance({"a": torch.ones(1, 2)}, {"b": torch.ones(1, 2)})
    with pytest.raises(WorkError, match="another batch"):
        output_distance({"a": torch.ones(1, 2)}, {"a": torch.ones(2, 2)})
