"""job=convert: there and back, with the outputs that it was asked to keep."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys.open_clip import config_of, random_open_clip, save_open_clip
from transformers import CLIPModel, CLIPTokenizer, ViTForImageClassification

import rcc

CONVERT = ("job=convert", "threads=1")


def embedded(path):
    engine = rcc.CLIPEngine(path)
    return engine.encode_text(["a photo of the digit three", "zero"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_becomes_an_artifact_as_it_is(rcc_run, clip_checkpoint, dtype):
    words = ("model=clip", f"model.path={clip_checkpoint}", f"export.dtype={dtype}", "out=made", "hydra.run.dir=run")
    code, out, err = rcc_run(*CONVERT, *words)
    assert code == 0, err
    assert "image_embeds" in out
    assert "rcc-run model=auto model.path=made" in out
    tolerance = 1e-6 if dtype == "float32" else 0.05
    np.testing.assert_allclose(embedded("made"), embedded(clip_checkpoint), atol=tolerance)


def test_an_artifact_is_no_dead_end(rcc_run, small_clip, tmp_path):
    code, _, err = rcc_run("debug=quick", *small_clip, "stage=nullu+dare+alpha+quant", "threads=1", "hydra.run.dir=run")
    assert code == 0, err
    code, out, err = rcc_run(*CONVERT, "artifact=run/artifact", "to=huggingface", "out=dense", "hydra.run.dir=two")
    assert code == 0, err
    assert "from_pretrained('dense')" in out
    model, info = CLIPModel.from_pretrained("dense", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    compressed = rcc.load("run/artifact")
    batch = compressed.prepare(texts=["a photo of the digit three"])
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(model.eval().get_text_features(**batch).pooler_output, dim=-1)
        ours = compressed.outputs(batch)["text_embeds"]
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_a_classifier_goes_there_and_back_to_the_same_weights(rcc_run, checkpoint_of):
    words = ("model=vit", f"model.path={checkpoint_of('vit')}", "export.dtype=float32", "out=made", "hydra.run.dir=one")
    code, _, err = rcc_run(*CONVERT, *words)
    assert code == 0, err
    code, _, err = rcc_run(*CONVERT, "artifact=made", "to=huggingface", "out=back", "hydra.run.dir=two")
    assert code == 0, err
    first, again = (
        ViTForImageClassification.from_pretrained(path).state_dict() for path in (checkpoint_of("vit"), "back")
    )
    for name, tensor in first.items():
        torch.testing.assert_close(again[name], tensor, atol=1e-6, rtol=0)


def test_open_clip_goes_to_an_artifact_and_to_transformers(rcc_run, tmp_path, clip_checkpoint):
    model = random_open_clip(len(CLIPTokenizer.from_pretrained(clip_checkpoint)))
    directory = save_open_clip(tmp_path / "open_clip", model, config_of(model), clip_checkpoint)
    for to, out in (("artifact", "made"), ("huggingface", "dense")):
        words = ["model=auto", f"model.path={directory}", f"to={to}", f"out={out}"]
        words += ["export.dtype=float32"] if to == "artifact" else []
        code, told, err = rcc_run(*CONVERT, *words, f"hydra.run.dir=run-{to}")
        assert code == 0, err
        assert "text_embeds" in told
        np.testing.assert_allclose(embedded(out), embedded(directory), atol=1e-5)
    assert json.loads(Path("dense/config.json").read_text())["vision_config"]["hidden_act"] == "quick_gelu"


def test_an_artifact_becomes_graphs_of_onnx_without_its_zeros_and_factors(rcc_run, small_clip, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    code, _, err = rcc_run("debug=quick", *small_clip, "stage=nullu+dare", "threads=1", "hydra.run.dir=run")
    assert code == 0, err
    code, out, err = rcc_run(*CONVERT, "artifact=run/artifact", "to=onnx", "out=graphs", "hydra.run.dir=two")
    assert code == 0, err
    assert "onnxruntime.InferenceSession of image.onnx, text.onnx in graphs" in out
    batch = rcc.load("run/artifact").prepare(texts=["a photo of the digit three"])
    session = onnxruntime.InferenceSession("graphs/text.onnx")
    (found,) = session.run(["text_embeds"], {name: tensor.numpy() for name, tensor in batch.items()})
    np.testing.assert_allclose(found, embedded("run/artifact")[:1], atol=1e-5)
    code, _, err = rcc_run(*CONVERT, "artifact=run/artifact", "to=onnx", "export.dtype=float32", "out=again")
    assert code == 2
    assert "export.dtype=float32 has an effect with to=artifact alone" in err


def test_outputs_of_another_model_end_the_job_and_nothing_is_left(rcc_run, monkeypatch, tmp_path):
    real = rcc.artifact.load.load

    def other(*arguments, **options):
        model = real(*arguments, **options)
        with torch.no_grad():
            for parameter in model.module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 10)
        return model

    monkeypatch.setattr("rcc.jobs.convert.load", other)
    code, _, err = rcc_run(*CONVERT, "out=made", "hydra.run.dir=run")
    assert code == 1
    assert "is below fail_below=0.9, so that what was written is another model; made was removed" in err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("to=onnyx",), "unknown to 'onnyx'"),
        (("parity=2",), "parity is 2; it must be a whole number from 3 up"),
        (("fail_below=2",), "fail_below is 2"),
        (("artifact=none",), "none is not an artifact"),
        (("artifact=[dense,none]",), "none is not an artifact"),
        (("export.dtype=int8",), "int8"),
    ],
)
def test_what_cannot_be_converted_is_refused(rcc_run, words, message):
    code, _, err = rcc_run(*CONVERT, *words, "hydra.run.dir=run")
    assert code == 2
    assert message in err


def test_a_directory_that_is_there_is_not_overwritten(rcc_run, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/mine").write_text("")
    code, _, err = rcc_run(*CONVERT, "out=made", "hydra.run.dir=run")
    assert code == 2
    assert "made" in err
    assert (tmp_path / "made/mine").exists()
