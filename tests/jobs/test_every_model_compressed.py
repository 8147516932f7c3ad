"""Every model= planned and compressed from the command line, on files as they are published, and measured again."""

import json
import shlex
import signal
import time

import pytest

from rcc.shipped import choices, config_dir

QUICK = (
    "schedule=one_shot",
    "gate.threshold=0.001",
    "gate.on_chance=continue",
    "gate.tries=0",
    "threads=1",
    "device=cpu",
    "hydra.run.dir=run",
)
UNSOLVED = ("stage.dare.solver=none", "stage.dare.allocation=uniform")
"""Of the embedded CLIP, which is larger than the others here; the default run of it solves."""
TWO, ALL = ("stage=dare+quant",), ("stage=nullu+dare+alpha+quant", "stage.alpha.num_epochs=1")
PYTHON = ("eval=captioning", "eval.captioning.metrics=[bleu,rouge_l]", "eval.captioning.tokenizer=python")
RUNS = {
    "auto": ("digits", ("eval=classification",), TWO),
    "blip": ("flickr8k", PYTHON, TWO),
    "blip_retrieval": ("coco", ("eval=retrieval", "eval.retrieval.rerank_top_k=2"), ALL),
    "clip": ("conceptual_captions", ("eval=retrieval",), ALL),
    "clip_tiny": ("image_text", ("eval=retrieval",), (*TWO, *UNSOLVED)),
    "module": ("cifar10", ("eval=classification",), ALL),
    "open_clip": ("digits", ("eval=zero_shot",), TWO),
    "siglip": ("image_folder", ("eval=zero_shot",), TWO),
    "text_encoder": ("documents", ("eval=search",), ALL),
    "transformers": ("cifar10", ("eval=classification",), TWO),
    "whisper": ("fsdd", ("eval=probing",), ALL),
    "clip_vision": ("cifar10", ("eval=probing",), TWO),
    "vit": ("digits", ("eval=classification",), (*TWO, "target_ratio=4")),
}
FILES = {
    "auto": ["preprocessor_config.json"],
    "blip": ["generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"],
    "module": [],
    "text_encoder": [
        "1_Pooling",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
    "transformers": ["preprocessor_config.json"],
    "vit": ["preprocessor_config.json"],
    "clip_vision": ["preprocessor_config.json"],
    "whisper": ["audio.json", "preprocessor_config.json"],
}
TWO_TOWERS = ["preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("model", RUNS)
def test_a_model_is_compressed_and_measured_again_to_the_same_figures(
    rcc_run, tmp_path, model_arguments, data_arguments, model
):
    data, evaluator, stages = RUNS[model]
    code, out, err = rcc_run(*model_arguments(model), *data_arguments(data), *evaluator, *stages, *QUICK)
    assert code == 0, err
    manifest = json.loads((tmp_path / "run/artifact/manifest.json").read_text())
    assert manifest["adapter"] == {"auto": "vit", "clip_tiny": "clip", "open_clip": "clip"}.get(model, model)
    files = sorted(path.name for path in (tmp_path / "run/artifact").iterdir())
    others = {"config.json", "manifest.json", "network.json", "weights.safetensors"}
    assert [name for name in files if name not in others] == FILES.get(model, TWO_TOWERS)
    if "target_ratio=4" in stages:
        size = sum(path.stat().st_size for path in (tmp_path / "run/artifact").iterdir())
        assert f"{size:,}" in out
    (again,) = [line for line in out.splitlines() if line.startswith("Measure it again: rcc-run ")]
    code, _, err = rcc_run(*shlex.split(again)[4:], "threads=1", "device=cpu", "hydra.run.dir=again")
    assert code == 0, err
    (found,) = json.loads((tmp_path / "again/evaluation.json").read_text())["models"]
    values = {metric["name"]: metric["value"] for metric in found["metrics"]}
    tested = manifest["metrics"]["test"]
    assert len(tested) >= 2
    assert {name: values[name] for name in tested} == tested == found["recorded"]


def test_no_model_is_left_out():
    assert set(RUNS) == set(choices(config_dir(), "model"))


@pytest.mark.parametrize("model", choices(config_dir(), "model"))
def test_every_model_is_planned_and_one_batch_goes_through_it(
    rcc_run, tmp_path, model_arguments, data_arguments, model
):
    read = data_arguments("fsdd") if model == "whisper" else ()
    code, out, err = rcc_run("dry_run=true", *model_arguments(model), *read, *ALL[:1], "hydra.run.dir=run")
    assert code == 0, err
    assert "One batch went through the model in" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["blip", "vit"])
def test_an_artifact_beside_its_dense_model_costs_less(rcc_run, tmp_path, model_arguments, data_arguments, model):
    data, evaluator, _ = RUNS[model]
    common = (*model_arguments(model), *data_arguments(data), *evaluator[1:], "threads=1", "device=cpu")
    code, _, err = rcc_run(*common, evaluator[0], *TWO, *QUICK)
    assert code == 0, err
    code, out, err = rcc_run(
        "job=evaluate", *common, "artifact=[dense,run/artifact]", f"{evaluator[0]}+efficiency",
        "eval.efficiency.seconds=0", "hydra.run.dir=again",
    )  # fmt: skip
    assert code == 0, err
    dense, artifact = json.loads((tmp_path / "again/evaluation.json").read_text())["models"]
    before, after = ({each["name"]: each["value"] for each in one["metrics"]} for one in (dense, artifact))
    for name in ("stored_bytes", "nonzeros", "theoretical_flops", "bytes_on_disk"):
        assert after[name] < before[name], name
    assert "same as recorded" in out


def test_a_killed_run_on_files_resumes_to_the_same_bytes(
    rcc_run, fresh_rcc_run, tmp_path, model_arguments, data_arguments
):
    said = [*model_arguments("clip"), *data_arguments("flickr8k"), "eval=retrieval", *ALL, *QUICK[:-1]]
    killed = fresh_rcc_run(*said, "hydra.run.dir=killed")
    while not list((tmp_path / "killed").glob("state/step-001-*")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed/artifact").exists()
    code, out, err = rcc_run("resume=killed")
    assert code == 0, err
    assert "Resumed: " in out
    code, _, err = rcc_run(*said, "hydra.run.dir=run")
    assert code == 0, err
    one, other = ((tmp_path / name / "artifact/weights.safetensors").read_bytes() for name in ("killed", "run"))
    assert one == other
