"""What a run delivers is what it had in memory: the reloaded artifact is compared with it before it is measured."""

import json

import torch
from safetensors.torch import save_model

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 24), nn.Linear(24, 10)
        self.register_buffer("offset", OFFSET, persistent=False)

    def forward(self, pixel_values):
        return self.last(torch.relu(self.first(pixel_values.flatten(1)))) + self.offset
"""


def compressed(rcc_run, tmp_path, name, offset, *more):
    """Compresses the network, untrained, whose constructor takes its offset so."""
    (tmp_path / f"{name}.py").write_text(NETWORK.replace("OFFSET", offset))
    scope = {}
    exec(compile(NETWORK.replace("OFFSET", "torch.zeros(10)"), name, "exec"), scope)
    torch.manual_seed(0)
    save_model(scope["Net"](), str(tmp_path / "weights.safetensors"))
    return rcc_run(
        "model=module", f"model.target={name}:Net", "model.path=weights.safetensors", "model.image_size=8",
        "model.channels=1", "data=digits", "data.train=100", "data.calibration=20", "data.selection=20", "data.test=40",
        "eval=classification", "stage=dare", "schedule=one_shot", "gate.threshold=0.001", "threads=1", "device=cpu",
        "hydra.run.dir=run", *more,
    )  # fmt: skip


def test_a_network_that_reloads_to_the_same_outputs_is_delivered(rcc_run, tmp_path):
    code, _, err = compressed(rcc_run, tmp_path, "steady_nets", "torch.arange(10.0)", "gate.on_chance=continue")
    assert code == 0, err
    assert json.loads((tmp_path / "run/artifact/manifest.json").read_text())["metrics"]["test"]


def test_one_that_was_never_trained_is_refused_as_a_thing_to_gate_on(rcc_run, tmp_path):
    code, _, err = compressed(rcc_run, tmp_path, "guessing_nets", "torch.zeros(10)")
    assert code == 2
    said = " ".join(err.split())
    assert "the dense model's classifier_accuracy is" in said
    assert "on 20 selection items" in said
    assert "gate.on_chance=continue" in said
    assert not (tmp_path / "run/artifact").exists()


def test_one_that_reloads_to_others_is_an_error_with_the_difference_and_its_place(rcc_run, tmp_path):
    code, _, err = compressed(rcc_run, tmp_path, "drawing_nets", "torch.rand(10)", "gate.on_chance=continue")
    assert code == 1
    said = " ".join(err.split())
    assert "run/artifact: reloaded, it does not give what the model in memory gives: output 'logits' differs by" in said
    assert "Every layer puts out the same: the difference arises outside them." in said
    assert "persistent=False" in said
