"""rcc-run job=evaluate runtime=…: what it prints and leaves, and what it refuses."""

import json

import pytest

from rcc.artifact.write import write_artifact
from rcc.models.registry import load_model
from rcc.runtime.products import has_int8

SMALL = ("job=evaluate", "data.test=40", "data.selection=20", "data.calibration=24", "threads=1", "hydra.run.dir=run")


@pytest.fixture
def artifact(tmp_path):
    write_artifact(load_model("clip_tiny", device="cpu"), tmp_path / "artifact")
    return "artifact=artifact"


@pytest.mark.skipif(not has_int8(), reason="torch without oneDNN")
def test_an_artifact_runs_in_int8_beside_the_dense_model(rcc_run, artifact, tmp_path):
    code, out, err = rcc_run(*SMALL, artifact, "runtime=int8")
    assert code == 0, err
    assert "runtime=int8: activations in" in out
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    plan, (dense, now) = written["runtime"]["plan"], written["runtime"]["efficiency"]
    assert {pick["kernel"].split()[0] for pick in plan["picks"]} == {"int8"}
    assert plan["cosine"] > 0.999
    assert (dense["model"], now["model"]) == ("dense", "as run")
    assert dense["executed_flops"] == now["executed_flops"] == now["theoretical_flops"]
    assert [latency["batch_size"] for latency in now["latencies"]] == [1, 24]
    accuracy = {metric["name"]: metric["value"] for metric in written["measurement"]["metrics"]}["accuracy"]
    assert accuracy > 0.9


def test_without_the_dense_model_of_the_same_layers_the_comparison_is_left_out(rcc_run, artifact, clip_checkpoint):
    code, out, err = rcc_run(*SMALL, artifact, "runtime=csr", "model=clip", f"model.path={clip_checkpoint}")
    assert code == 0, err
    assert "Without the dense model beside it: model=clip has other layers" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job=evaluate", "runtime=int7"], "unknown runtime 'int7'. Did you mean 'int8'?"),
        (["runtime=auto"], "runtime=auto is for job=evaluate; job=compress runs models as stored."),
    ],
)
def test_a_runtime_that_cannot_be_is_refused(rcc_run, arguments, said):
    code, _, err = rcc_run(*arguments)
    assert code == 2
    assert said in err


def test_dense_measures_as_stored_and_says_nothing_of_kernels(rcc_run, artifact, tmp_path):
    code, out, _ = rcc_run(*SMALL, artifact)
    assert code == 0
    assert "runtime=" not in out
    assert "runtime" not in json.loads((tmp_path / "run/evaluation.json").read_text())
