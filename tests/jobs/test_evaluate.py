"""rcc-run job=evaluate with several models: one table, what is written, and what is refused."""

import csv
import json
import shutil

import pytest

from rcc.artifact.write import write_artifact
from rcc.models.registry import load_model

SMALL = ("job=evaluate", "data.test=40", "data.selection=20", "data.calibration=24", "threads=1", "hydra.run.dir=run")


@pytest.fixture
def models(tmp_path, clip_checkpoint):
    """An artifact of the trained CLIP and a checkpoint of the random one, in the folder the command runs in."""
    write_artifact(load_model("clip_tiny", device="cpu"), tmp_path / "small")
    shutil.copytree(clip_checkpoint, tmp_path / "random")


def test_artifacts_and_dense_checkpoints_come_side_by_side(rcc_run, models, tmp_path):
    code, out, err = rcc_run(*SMALL, "artifact=[dense,small,random]")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:4] == [
        "small: its own numbers were measured on other data or other splits, and are not compared.",
        "3 models on the test split of digits (40 samples):",
        "(1) the model of model=",
        "(2) small, artifact",
    ]
    assert lines[4] == "(3) random, checkpoint"
    assert any(line.startswith("accuracy (primary)") for line in lines)
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    dense, small, random = written["models"]
    assert [model["kind"] for model in written["models"]] == ["dense", "artifact", "checkpoint"]
    assert dense["metrics"][0]["value"] == small["metrics"][0]["value"] > 0.9 > random["metrics"][0]["value"]
    assert small["differences"]["accuracy"]["value"] == 0
    on_disk = {model["name"]: model["metrics"][-1]["value"] for model in written["models"]}
    files = [path for path in (tmp_path / "random").rglob("*") if path.is_file()]
    assert on_disk["random"] == sum(path.stat().st_size for path in files)
    assert on_disk["dense"] > on_disk["small"]
    with (tmp_path / "run/evaluation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows if row["metric"] == "accuracy"] == ["dense", "small", "random"]
    items = json.loads((tmp_path / "run/items.json").read_text())
    assert {name: len(found["zero_shot"]["predictions"]) for name, found in items["models"].items()} == {
        "dense": 40,
        "small": 40,
        "random": 40,
    }


def test_costs_alone_may_be_measured_and_come_with_the_time_to_load(rcc_run, models, tmp_path):
    code, out, err = rcc_run(*SMALL, "artifact=small", "eval=efficiency", "eval.efficiency.seconds=0")
    assert code == 0, err
    assert "Costs on 1 thread" in out
    (small,) = json.loads((tmp_path / "run/evaluation.json").read_text())["models"]
    assert small["primary"] == "latency_p50_batch_32"
    assert small["metrics"][-1]["name"] == "load_time"


def test_the_librarys_own_time_to_load_stands_beside_that_of_a_checkpoint(rcc_run, models, tmp_path):
    costs = ("eval=efficiency", "eval.efficiency.seconds=0")
    code, out, err = rcc_run(*SMALL, "artifact=[random,small]", *costs)
    assert code == 0, err
    assert "load_time_transformers" in out
    found = json.loads((tmp_path / "run/evaluation.json").read_text())["models"]
    random, small = ({each["name"]: each["value"] for each in one["metrics"]} for one in found)
    assert random["load_time_transformers"] > 0
    assert "load_time_transformers" not in small


def test_what_was_measured_before_a_model_failed_is_kept(rcc_run, models, tmp_path):
    (tmp_path / "small/weights.safetensors").write_bytes(b"")
    code, _, err = rcc_run(*SMALL, "artifact=[dense,small]")
    assert code == 2, err
    assert [model["name"] for model in json.loads((tmp_path / "run/evaluation.json").read_text())["models"]] == [
        "dense"
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[small,nowhere]", "nowhere is not an artifact (a directory with manifest.json, or a file artifact.rcc) nor"),
        ("[small,./small]", "artifact names ./small more than once"),
        ("[dense,dense]", "artifact names dense more than once"),
        ("[]", "artifact=[] names no model"),
        ("[small,3]", "artifact is 3, which YAML reads as a int; write artifact=./3."),
        ("empty", "it holds notes.txt. The word 'dense' stands for the model of model=."),
        ("whole", "it holds artifact. Did you mean whole/artifact?"),
    ],
)
def test_entries_that_are_no_models_are_refused(rcc_run, models, tmp_path, value, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("")
    (tmp_path / "whole").mkdir()
    shutil.copytree(tmp_path / "small", tmp_path / "whole/artifact")
    code, _, err = rcc_run(*SMALL, f"artifact={value}")
    assert (code, said in err) == (2, True), err
    assert not (tmp_path / "run").exists()


def test_a_model_without_what_an_evaluator_needs_is_named_and_the_rest_is_kept(rcc_run, checkpoint_of, tmp_path):
    shutil.copytree(checkpoint_of("vit"), tmp_path / "classifier")
    code, _, err = rcc_run(*SMALL, "artifact=[dense,classifier]")
    assert (code, "classifier: eval 'zero_shot': the model 'vit' reads images and no texts" in err) == (2, True), err
    assert [model["name"] for model in json.loads((tmp_path / "run/evaluation.json").read_text())["models"]] == [
        "dense"
    ]


def test_a_run_that_compresses_needs_to_know_how_good_the_model_is(rcc_run):
    code, _, err = rcc_run("eval=efficiency")
    assert (code, "'efficiency' says what a model costs" in err) == (2, True), err
    code, _, err = rcc_run("eval=efficiency+zero_shot", "gate.threshold=2")
    assert (code, "Name an evaluator of quality first" in err, "threshold is 2" in err) == (2, True, True), err


def test_a_compression_measures_costs_once_at_the_end(rcc_run, tmp_path, small_clip):
    costs = ("eval=zero_shot+efficiency", "eval.efficiency.seconds=0")
    code, out, err = rcc_run("debug=quick", *small_clip, "stage=dare", *costs, "threads=1", "hydra.run.dir=run")
    assert code == 0, err
    assert out.count("Costs on 1 thread") == 1
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    costly = [line for line in lines if "latency" in line["name"]]
    assert costly
    assert {line["stage"] for line in costly} == {"artifact"}
    recorded = json.loads((tmp_path / "run/artifact/manifest.json").read_text())["metrics"]
    assert set(recorded["test"]) == set(recorded["selection"]) >= {"accuracy", "top5_accuracy"}
    report = (tmp_path / "run/report.md").read_text()
    assert "| theoretical_flops |" in report
    assert "Costs on 1 thread" in report
    items = json.loads((tmp_path / "run/items.json").read_text())
    assert list(items["models"]) == ["dense", "compressed"]
    assert len(items["models"]["compressed"]["zero_shot"]["predictions"]) == 40
