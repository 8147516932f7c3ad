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
from PIL import Image
from safetensors.torch import load_file, save_model
from toys.checkpoints import bert_tokenizer
from toys.networks import Attentive, ResNet, Sentences

import rcc
from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.data.loading import batch_of
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.measurement import Measurement, Metric
from rcc.models.abilities import Captioner, Classifier
from rcc.models.own.image_input import ImageInput
from rcc.models.own.network import NetworkAdapter
from rcc.models.registry import load_model, load_skeleton
from rcc.models.transformers.processor_files import save_tokenizer
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


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """A folder with the weights of a text network and the tokenizer beside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(Sentences(), str(tmp_path / "weights.safetensors"))
    save_tokenizer(tmp_path, bert_tokenizer())
    return tmp_path


def test_texts_become_what_the_forward_takes_by_the_tokenizer_beside_the_weights(
    sentences: Path, tmp_path: Path
) -> None:
    options = {"target": "toys.networks:Sentences", "path": sentences / "weights.safetensors", "device": "cpu"}
    model = load_model("module", **options)
    assert model.reads == ("texts", "input_ids", "attention_mask")
    split = Split("test", texts=["a photo of one dog", "two"], labels=np.array([0, 1]))
    batch = batch_of(model, split, labels=True)
    assert {name: tuple(each.shape) for name, each in batch.items()} == {
        "input_ids": (2, 7), "attention_mask": (2, 7), "labels": (2,),
    }  # fmt: skip
    assert batch["attention_mask"].sum(1).tolist() == [7, 3]
    with torch.no_grad():
        outputs = model.outputs(batch)
    assert {name: tuple(each.shape) for name, each in outputs.items()} == {"states": (2, 7, 8), "pooled": (2, 8)}
    chosen = load_model("module", **options, output="pooled", max_length=4)
    assert list(chosen.outputs(chosen.prepare(texts=["a photo of one dog"]))) == ["pooled"]
    assert chosen.prepare(texts=["a photo of one dog"])["input_ids"].shape == (1, 4)
    rcc.save(chosen, tmp_path / "artifact", dtype=None)
    again = load(tmp_path / "artifact", skeleton=Sentences())
    assert (again.output, again.max_length) == (("pooled",), 4)
    assert torch.equal(again.outputs(again.prepare(texts=["two"]))["pooled"],
                       chosen.outputs(chosen.prepare(texts=["two"]))["pooled"])  # fmt: skip


def test_fields_are_read_under_the_names_of_the_forward(sentences: Path) -> None:
    (sentences / "tokenizer.json").unlink()
    target, path = "toys.networks:Sentences", sentences / "weights.safetensors"
    model = load_model("module", target=target, path=path, device="cpu", output="pooled")
    split = Split("test", input_ids=np.array([[1, 2], [3, 4]]), attention_mask=np.ones((2, 2), int))
    batch = batch_of(model, split)
    pipeline = rcc.RCCPipeline([Quantizer(4)], performance_threshold=1e-6)
    pipeline.run(model, lambda _: 1.0, [batch])
    assert model.outputs(batch)["pooled"].shape == (2, 8)
    with pytest.raises(UserError) as error:
        model.prepare(texts=["one"])
    assert str(error.value) == (
        "the forward of Sentences requires input_ids, attention_mask, and of the data came texts: input_ids,"
        " attention_mask is lacking. Texts become tokens where tokenizer.json lies beside the weights, or with"
        " model.tokenizer=<directory>. Give data with fields of these names."
    )
    with pytest.raises(UserError, match=r"'poled' was asked for and Sentences gives states .*Did you mean 'pooled'"):
        load_model("module", target=target, path=path, device="cpu", output="poled").outputs(batch)
    with pytest.raises(UserError, match="needs labels"):
        model.loss(batch)
    with pytest.raises(UserError, match="is that of its logits; 'module' gives pooled"):
        model.loss({**batch, "labels": torch.tensor([0, 1])})


def test_what_the_network_ships_makes_its_images_and_what_is_given_wins(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = {"input_size": [3, 32, 32], "crop_pct": 0.8, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (weights.parent / "config.json").write_text(json.dumps({"pretrained_cfg": shipped}))
    model = load_model("module", target=TARGET, path=weights, device="cpu")
    assert model.images == ImageInput(32, 40, 3, [0.5] * 3, [0.25] * 3)
    assert "images are made as" in model.notes[0]
    assert "config.json says: channels=3, image_size=32" in model.notes[0]
    assert not caplog.text
    own = load_model("module", target=TARGET, path=weights, device="cpu", mean=[0, 0, 0], image_size=16)
    assert own.images == ImageInput(16, 20, 3, [0, 0, 0], [0.25] * 3)
    assert [record.message.partition(" was given, and ")[0] for record in caplog.records] == [
        "model.image_size=16", "model.mean=[0, 0, 0]",
    ]  # fmt: skip
    assert caplog.records[1].message.endswith("config.json says [0.5, 0.5, 0.5]; what was given is used.")


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


def test_what_is_needed_is_asked_for_at_once() -> None:
    with pytest.raises(UserError) as error:
        load_model("module", device="cpu")
    assert ["model.target=" in problem or "model.path=" in problem for problem in error.value.problems] == [True, True]


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
    with pytest.raises(UserError, match=r"Flat gave output \[\] for 6 items; .*Give logits \(B, classes\)"):
        model.outputs(model.prepare(images))
    named = NetworkAdapter(ResNet(), ImageInput(8), class_names=["a", "b"])
    with pytest.raises(UserError, match="2 class_names were given and the network has 10 logits"):
        named.outputs(named.prepare(images))
    with pytest.raises(UserError, match="reads images and no texts"):
        named.prepare(texts=["a"])
    with pytest.raises(UserError, match="needs labels"):
        named.loss(named.prepare(images))
