"""Another checkpoint's weights by unit name: a file, a directory of several, and what is wrong with either."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rcc.calibration.checkpoints import Checkpoint
from rcc.errors import UserError
from rcc.layers.units import find_units


@pytest.fixture
def module():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.Linear(5, 3))


def test_weights_are_found_across_the_files_of_a_directory_and_flattened(tmp_path, module):
    kernel, weight = torch.randn(4, 2, 3), torch.randn(3, 5)
    save_file({"0.weight": kernel}, tmp_path / "model-00001.safetensors")
    save_file({"1.weight": weight}, tmp_path / "model-00002.safetensors")
    checkpoint = Checkpoint(tmp_path, "base")
    units = find_units(module)
    checkpoint.require(units)
    assert torch.equal(checkpoint.weight(units[0]), kernel.flatten(1))
    assert torch.equal(checkpoint.weight(units[1]), weight)


def test_a_single_file_will_do(tmp_path, module):
    save_file({"1.weight": torch.ones(3, 5)}, tmp_path / "weights.safetensors")
    checkpoint = Checkpoint(tmp_path / "weights.safetensors", "base")
    assert checkpoint.weight(find_units(module)[1]).tolist() == [[1.0] * 5] * 3


def test_everything_missing_or_misshaped_is_said_at_once(tmp_path, module):
    save_file({"1.weight": torch.ones(5, 3), "other": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        Checkpoint(tmp_path, "task 'birds'").require(find_units(module))
    missing, misshaped = caught.value.problems
    assert "task 'birds'" in missing
    assert "no tensor '0.weight'" in missing
    assert "'1.weight' has shape (5, 3); the layer's weight is (3, 5)" in misshaped


def test_a_path_without_safetensors_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Checkpoint(tmp_path / "nowhere", "base")
    with pytest.raises(UserError, match=r"holds no \*\.safetensors"):
        Checkpoint(tmp_path, "base")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no readable safetensors"):
        Checkpoint(tmp_path, "base")
