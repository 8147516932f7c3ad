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
def test_the_models_after_the_first_run_in_int8_beside_it_as_stored(rcc_run, artifact, tmp_path):
    costs = ("eval=zero_shot+efficiency", "eval.efficiency.batch_size=24", "eval.efficiency.seconds=0")
    code, out, err = rcc_run(*SMALL, "artifact=[dense,artifact]", *costs, "runtime=int8")
    assert code == 0, err
    assert "runtime=int8: activations in" in out
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert list(written["runtime"]) == ["artifact"]
    plan = written["runtime"]["artifact"]
    assert {pick["kernel"].split()[0] for pick in plan["picks"]} == {"int8"}
    assert plan["cosine"] > 0.999
    dense, now = ({metric["name"]: metric["value"] for metric in model["metrics"]} for model in written["models"])
    for name in ("parameters", "nonzeros", "theoretical_flops", "executed_flops", "stored_bytes"):
        assert dense[name] == now[name]
    assert set(now) - set(dense) == {"speedup_batch_1", "speedup_batch_24"}
    assert now["peak_memory"] < dense["peak_memory"]
    assert now["accuracy"] > 0.9


def test_a_single_model_is_made_fast_too(rcc_run, artifact, tmp_path):
    code, out, err = rcc_run(*SMALL, artifact, "runtime=csr")
    assert code == 0, err
    assert "runtime=csr: activations in float32" in out
    assert list(json.loads((tmp_path / "run/evaluation.json").read_text())["runtime"]) == ["artifact"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job=evaluate", "runtime=int7"], "unknown runtime 'int7'. Did you mean 'int8'?"),
        (["runtime=auto"], "runtime=auto: job=compress does not use 'runtime', which belongs to job=evaluate."),
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
