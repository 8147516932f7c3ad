"""model=module: networks by import path, weights from safetensors, images to pixels, artifacts without code."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file, save_model
from toys.networks import Attentive, ResNet, Tied
from transformers import CLIPImageProcessorPil

import rcc
from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.measurement import Measurement, Metric
from rcc.models.abilities import Captioner, Classifier
from rcc.models.own.image_input import ImageInput
from rcc.models.own.import_path import build, fill
from rcc.models.own.network import NetworkAdapter
from rcc.models.registry import load_model, load_skeleton
from rcc.stages.quant.quantizer import Quantizer

TARGET = "toys.networks:ResNet"


def moved(module: Any) -> Any:
    """With every parameter and running moment moved, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                tensor += noise.abs() if "running_var" in name else noise
    return module.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(moved(ResNet()), str(tmp_path / "weights.safetensors"))
    return tmp_path / "weights.safetensors"


@pytest.fixture
def network(weights: Path) -> NetworkAdapter:
    return load_model("module", target=TARGET, path=weights, image_size=32, device="cpu")  # type: ignore[return-value]


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [digits.test.images[index] for index in range(6)]


def test_logits_are_the_networks_own_to_the_bit(
    network: NetworkAdapter, weights: Path, images: list[Image.Image]
) -> None:
    own = ResNet().eval()
    own.load_state_dict(load_file(weights))
    batch = network.prepare(images, ["a text that is passed over"] * 6)
    assert set(batch) == {"pixel_values"}
    with torch.no_grad():
        expected = own(batch["pixel_values"])
        assert torch.equal(network.outputs(batch)["logits"], expected)
        labels = torch.tensor([0, 1, 2, 3, 4, 5])
        loss = -expected.double().log_softmax(-1)[range(6), labels].mean()
        torch.testing.assert_close(network.loss({**batch, "labels": labels}).double(), loss)
    assert isinstance(network, Classifier)
    assert not isinstance(network, Captioner)


def test_units_are_convolutions_linears_and_norms(network: NetworkAdapter) -> None:
    assert Counter((unit.kind, unit.role) for unit in network.units()) == {
        ("conv", "conv"): 7, ("norm", "norm"): 6, ("linear", "linear"): 1,
    }  # fmt: skip
    assert {unit.tower for unit in network.units()} == {"stem", "blocks", "head"}


def cascade(model: NetworkAdapter, images: list[Image.Image], steps: list[Any]) -> dict[str, torch.Tensor]:
    batches = [model.prepare(images[:3]), model.prepare(images[3:])]
    with torch.no_grad():
        dense = [model.outputs(batch)["logits"] for batch in batches]

    def measure(adapter: Any) -> Measurement:
        with torch.no_grad():
            found = [adapter.outputs(batch)["logits"] for batch in batches]
        cosine = torch.cosine_similarity(torch.cat(found), torch.cat(dense)).mean()
        return Measurement((Metric("cosine", max(1e-3, float(cosine)), "", True, None),), "cosine", "selection", 6)

    rcc.RCCPipeline(steps, performance_threshold=1e-6).run(model, measure, batches)
    return batches[0]


@pytest.mark.parametrize("network_class", [ResNet, Attentive])
def test_a_cascade_compresses_it_and_the_artifact_gives_the_same_bits(
    network_class: type, images: list[Image.Image], tmp_path: Path
) -> None:
    name = f"toys.networks:{network_class.__name__}"
    save_model(moved(network_class()), str(tmp_path / "weights.safetensors"))
    model = load_model("module", target=name, path=tmp_path / "weights.safetensors", image_size=32, device="cpu")
    stages = [
        rcc.DARECompressor(0.5, solver="admm", allocation="sensitivity"),
        rcc.NulluProjector(0.6, metric="calibration"),
        rcc.AlphaEditor(num_epochs=1, repair="least_squares"),
        Quantizer(8),
    ]
    batch = cascade(model, images, stages)
    forms = [unit.read() for unit in model.units() if unit.role in model.default_roles and not unit.obstacle]
    assert all(form.rank is not None or bool((form.sparse == 0).any()) for form in forms)
    write_artifact(model, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact", skeleton=load_skeleton("module", target=name).module)
    assert isinstance(loaded, NetworkAdapter)
    with torch.no_grad():
        expected = model.outputs(batch)["logits"]
        assert torch.equal(loaded.outputs(loaded.prepare(images[:3]))["logits"], expected)
        assert torch.equal(load(tmp_path / "artifact", skeleton=network_class()).outputs(batch)["logits"], expected)


def test_an_artifact_never_imports_what_it_names(network: NetworkAdapter, tmp_path: Path) -> None:
    network.target = "evil_module:run"
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        write_artifact(network, tmp_path / "artifact")
        with pytest.raises(UserError) as error:
            load(tmp_path / "artifact")
    finally:
        sys.path.remove(str(tmp_path))
    assert "evil_module" not in sys.modules
    command = f"rcc-run job=evaluate artifact={tmp_path / 'artifact'} model=module model.target=evil_module:run"
    assert command in str(error.value)


def test_a_description_that_is_none_is_refused(network: NetworkAdapter, tmp_path: Path) -> None:
    network.save_files(tmp_path)
    content = json.loads((tmp_path / "network.json").read_text())
    for broken in ({**content, "images": {"size": 32, "shape": 3}}, {"images": {}}, [], {**content, "images": None}):
        (tmp_path / "network.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match="does not describe a network"):
            NetworkAdapter.around(ResNet(), tmp_path)
    (tmp_path / "network.json").write_text(json.dumps({**content, "images": {"size": -1}}))
    with pytest.raises(UserError, match="image_size is -1"):
        NetworkAdapter.around(ResNet(), tmp_path)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("toys.networks", "must be module:name"),
        ("small networks:build", "must be module:name"),
        (":build", "must be module:name"),
        ("no_such_package.nets:build", "cannot be imported: No module named 'no_such_package'"),
        ("toys.networks:biuld", r"'toys.networks' has no 'biuld'\. Did you mean 'build'\?"),
        ("toys.networks:number", "is of type int; it must be a class or a function"),
        ("toys.networks:nothing", "made of type str and no torch.nn.Module"),
        ("toys.networks:failing", "failed with arguments {}: RuntimeError: out of paper"),
    ],
)
def test_a_target_that_makes_no_network_is_refused(target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(target)


def test_arguments_reach_the_target_and_wrong_ones_are_told() -> None:
    assert build("toys.networks:build", {"classes": 3}).head.out_features == 3
    with pytest.raises(UserError, match=r"failed with arguments {'clases': 3}.*clases"):
        build("toys.networks:build", {"clases": 3})


def test_a_package_in_the_current_directory_is_found_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    (tmp_path / "users_own_nets.py").write_text("import json, torch\ndef build():\n    return torch.nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert build("users_own_nets:build").in_features == 2
    del sys.modules["users_own_nets"]


def test_what_is_needed_is_asked_for_at_once() -> None:
    with pytest.raises(UserError) as error:
        load_model("module", device="cpu")
    assert ["model.target=" in problem or "model.path=" in problem for problem in error.value.problems] == [True, True]


def test_weights_that_do_not_fit_are_named(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    broken = {**tensors, "extra": torch.ones(1), "head.weight": torch.ones(10, 5)}
    del broken["blocks.0.bn1.running_mean"]
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(UserError) as error:
        fill(ResNet(), tmp_path / "broken.safetensors")
    assert [problem.split("': ")[-1].split("' ")[-1] for problem in error.value.problems] == [
        "lacks the weights blocks.0.bn1.running_mean; they are not made up.",
        "holds weights that the network does not have: extra.",
        "head.weight has shape (10, 5) and the network needs (10, 16).",
    ]
    tensors["head.bias"][3] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinite weights in head\.bias"):
        fill(ResNet(), tmp_path / "nan.safetensors")


def test_pickles_folders_and_damage_are_refused(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"a pickle can run code.*save_file"):
        fill(ResNet(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="is a directory"):
        fill(ResNet(), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        fill(ResNet(), tmp_path / "nowhere.safetensors")
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        fill(ResNet(), weights)


@pytest.mark.parametrize("kept", ["one.weight", "two.weight"])
def test_a_shared_weight_may_be_in_the_file_once(tmp_path: Path, kept: str) -> None:
    save_file({kept: torch.arange(16.0).reshape(4, 4)}, tmp_path / "tied.safetensors")
    module = Tied()
    fill(module, tmp_path / "tied.safetensors")
    assert module.one.weight is module.two.weight
    assert module.one.weight.flatten().tolist() == list(range(16))
    skeleton = load_skeleton("module", target="toys.networks:Tied").module
    assert skeleton.one.weight is skeleton.two.weight
    assert skeleton.one.weight.is_meta


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_prefix_that_a_wrapper_put_before_all_names_is_left_away_and_said(
    prefix: str, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_file(weights)
    save_file({f"{prefix}{name}": tensor for name, tensor in expected.items()}, weights)
    module = ResNet()
    fill(module, weights)
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in expected.items())
    assert f"every name begins with '{prefix}'" in caplog.text


def test_a_network_whose_own_names_begin_so_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.ModuleDict({"module": torch.nn.Linear(2, 2)})
    save_file({"module.weight": torch.ones(2, 2), "module.bias": torch.zeros(2)}, tmp_path / "own.safetensors")
    fill(module, tmp_path / "own.safetensors")
    assert bool((module["module"].weight == 1).all())
    assert not caplog.text


def test_a_skeleton_holds_no_weight_and_keeps_its_buffers() -> None:
    skeleton = load_skeleton("module", target=TARGET, arguments={"classes": 3}, image_size=32)
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert skeleton.module.shift.item() == 0.25
    assert {unit.name: unit.shape for unit in skeleton.units()}["head"] == (3, 16)


def test_a_network_that_gives_no_logits_is_told(images: list[Image.Image]) -> None:
    class Flat(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean()

    model = NetworkAdapter(Flat(2, 2), ImageInput(8))
    with pytest.raises(UserError, match=r"must give logits \(B, classes\).*Flat gave \[\] for 6 images"):
        model.outputs(model.prepare(images))
    named = NetworkAdapter(ResNet(), ImageInput(8), class_names=["a", "b"])
    with pytest.raises(UserError, match="2 class_names were given and the network has 10 logits"):
        named.outputs(named.prepare(images))
    with pytest.raises(UserError, match="reads images and no texts"):
        named.prepare(texts=["a"])
    with pytest.raises(UserError, match="needs labels"):
        named.loss(named.prepare(images))


@given(
    width=st.integers(8, 60),
    height=st.integers(8, 60),
    size=st.integers(4, 24),
    more=st.integers(0, 12),
    interpolation=st.sampled_from([("nearest", 0), ("bilinear", 2), ("bicubic", 3), ("lanczos", 1)]),
)
def test_pixels_are_those_of_a_processor_with_the_same_settings(
    width: int, height: int, size: int, more: int, interpolation: tuple[str, int]
) -> None:
    values = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8)
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    ours = ImageInput(size, size + more, 3, mean, std, interpolation[0]).pixels([values])
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size + more}, crop_size={"height": size, "width": size}, resample=interpolation[1],
        image_mean=mean, image_std=std,
    )  # fmt: skip
    theirs = processor(images=Image.fromarray(values), return_tensors="pt")["pixel_values"]
    assert ours.shape == (1, 3, size, size)
    # Which of two middle pixels an odd margin leaves out is a matter of convention.
    if all(
        (max(size + more, int(side * (size + more) / min(width, height))) - size) % 2 == 0 for side in (width, height)
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_grey_images_have_one_channel_and_imagenets_mean_over_the_colours() -> None:
    image = Image.new("RGB", (10, 6), (255, 255, 255))
    pixels = ImageInput(4, channels=1).pixels(image)
    assert pixels.shape == (1, 1, 4, 4)
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    torch.testing.assert_close(pixels, torch.full((1, 1, 4, 4), (1 - mean) / std))


def test_image_options_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(UserError) as error:
        ImageInput(size=32, resize=16, channels=2, mean=[0.5], std=[0.0, 1.0], interpolation="cubic")
    assert len(error.value.problems) == 5
    with pytest.raises(UserError, match="std is"):
        ImageInput(std=[0.5, 0.5, -1.0])
