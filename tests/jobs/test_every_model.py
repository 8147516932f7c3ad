"""Each model= by the command line, with data and an evaluator that suit it: compressed, reloaded, measured again."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_model
from small_networks import ResNet

from rcc.data.splits import Splits

Checkpoint = Callable[[str], Path]
QUICK = ("threads=1", "gate.on_failure=continue", "gate.tries=0", "schedule.rounds=1")
DIGITS = ("data=digits", "data.calibration=12", "data.selection=20", "data.test=20")
CAPTIONS = (
    "data=image_text", "data.path=captions.csv", "data.calibration=6", "data.selection=6", "data.test=6",
)  # fmt: skip
SUITS = {
    "blip": (*CAPTIONS, "eval=captioning", "eval.captioning.metrics=[bleu]", "eval.captioning.tokenizer=python"),
    "blip_retrieval": (*CAPTIONS, "eval=retrieval", "eval.retrieval.rerank_top_k=2"),
    "clip": (*CAPTIONS, "eval=retrieval"),
    "siglip": (*DIGITS, "eval=zero_shot"),
    "vit": (*DIGITS, "eval=classification", "eval.classification.classes=index"),
    "module": (*DIGITS, "eval=classification"),
}
PRIMARY = {
    "blip": "bleu_4",
    "blip_retrieval": "r_mean",
    "clip": "r_mean",
    "siglip": "accuracy",
    "vit": "classifier_accuracy",
    "module": "classifier_accuracy",
}


@pytest.fixture
def model_of(checkpoint_of: Checkpoint, digits: Splits, tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """The arguments that name a model; beside them lie captions.csv with its images."""
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption"])
        for index in range(18):
            digits.test.images[index].save(tmp_path / f"{index}.png")
            name = digits.class_names[digits.test.labels[index]]
            writer.writerow([f"{index}.png", f"a photo of the digit {name}"])
            writer.writerow([f"{index}.png", f"{name} is on the photo"])

    def arguments(name: str) -> tuple[str, ...]:
        if name != "module":
            return (f"model={name}", f"model.path={checkpoint_of(name)}")
        save_model(ResNet(), str(tmp_path / "weights.safetensors"))
        target = ("model.target=small_networks:ResNet", "model.arguments={width: 8}", "model.image_size=32")
        return ("model=module", "model.path=weights.safetensors", *target)

    return arguments


@pytest.mark.parametrize("name", sorted(SUITS))
def test_a_model_is_compressed_reloaded_and_measured_the_same_again(
    rcc_run, tmp_path: Path, model_of: Callable[[str], tuple[str, ...]], name: str
) -> None:
    model, suits = model_of(name), SUITS[name]
    code, out, err = rcc_run(*model, *suits, *QUICK, "stage=dare+quant", "hydra.run.dir=run")
    assert code == 0, err
    manifest = json.loads((tmp_path / "run/artifact/manifest.json").read_text())
    assert manifest["adapter"] == name
    recorded = manifest["metrics"]["test"]
    assert PRIMARY[name] in recorded
    program, *again = shlex.split(out.splitlines()[-1].removeprefix("Measure it again: "))
    assert program == "rcc-run"
    code, _, err = rcc_run(*again, "hydra.run.dir=again")
    assert code == 0, err
    text = (tmp_path / "again/evaluation.json").read_text()
    assert f'"{PRIMARY[name]}"' in text
    assert repr(recorded[PRIMARY[name]]) in text


@pytest.mark.parametrize(
    ("name", "evaluator", "said"),
    [
        ("vit", "zero_shot", "the model 'vit' reads images and no texts"),
        ("clip", "classification", "of images it gives image_embeds"),
        ("vit", "captioning", "needs a model that writes captions"),
    ],
)
def test_an_evaluator_that_needs_what_the_model_lacks_says_what_it_gives(
    rcc_run, model_of: Callable[[str], tuple[str, ...]], name: str, evaluator: str, said: str
) -> None:
    data = CAPTIONS if evaluator == "captioning" else DIGITS
    code, _, err = rcc_run(*model_of(name), *data, f"eval={evaluator}", "stage=dare", "hydra.run.dir=run")
    assert (code, said in err) == (2, True), err
    assert "Traceback" not in err
