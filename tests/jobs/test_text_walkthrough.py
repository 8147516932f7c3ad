"""From a directory of a sentence encoder to searches: convert, compress, index, search, and back."""

import json
import shlex

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import rcc
from rcc import EmbeddingStore

QUIET = ("threads=1", "device=cpu")


@pytest.fixture
def encoder(model_arguments):
    return model_arguments("text_encoder")


def test_there_and_back_with_parity_and_the_files_of_the_library(
    rcc_run, encoder, data_arguments, checkpoint_of, tmp_path
):
    documents = data_arguments("documents")
    words = (*encoder, *documents, "parity=3", "export.dtype=float32", "out=made", "hydra.run.dir=one")
    code, out, err = rcc_run("job=convert", *words, *QUIET)
    assert code == 0, err
    assert "text_embeds" in out
    words = ("artifact=made", *documents, "parity=3", "to=huggingface", "out=back", "hydra.run.dir=two")
    code, out, err = rcc_run("job=convert", *words, *QUIET)
    assert code == 0, err
    texts = ["a red dog", "six"]
    encoders = [rcc.TextEncoder(path, device="cpu") for path in (checkpoint_of("text_encoder"), "made", "back")]
    first, made, back = (each.encode(texts) for each in encoders)
    assert np.array_equal(first, made)
    np.testing.assert_allclose(back, first, atol=1e-6)
    settings = json.loads((tmp_path / "back/sentence_bert_config.json").read_text())
    assert settings == {"do_lower_case": False, "max_seq_length": 12}
    model = transformers.AutoModel.from_pretrained("back").eval()
    dense = load_file(checkpoint_of("text_encoder") / "model.safetensors")
    state = model.state_dict()
    for name, tensor in dense.items():
        if not name.startswith("pooler"):
            torch.testing.assert_close(state[name], tensor, atol=1e-6, rtol=0)


def test_what_is_indexed_is_found_as_the_evaluation_ranks_it(rcc_run, encoder, data_arguments, tmp_path):
    data = data_arguments("documents")
    code, _, err = rcc_run(*encoder, *data, "eval=search", "stage=quant", "gate.threshold=0.01",
                           "gate.on_chance=continue", *QUIET, "hydra.run.dir=run")  # fmt: skip
    assert code == 0, err
    code, out, err = rcc_run("job=index", "artifact=run/artifact", *data, "store.path=store", *QUIET, "hydra.run.dir=i")
    assert code == 0, err
    assert "store: 24 of 24 texts embedded" in out
    store = EmbeddingStore("store")
    assert store.manifest.kind == "text"
    assert store.fields_of("d0") | {"digest": ""} == {
        "digest": "", "split": "corpus", "title": "a dog", "text": "a dog dog a photo of a"}  # fmt: skip
    assert "were cut there" not in out
    code, out, err = rcc_run("job=search", "store.path=store", "query=the cat is red", "top_k=5", "threads=1")
    assert code == 0, err
    found = [line.split()[0] for line in out.splitlines() if line.startswith("d")]
    splits = rcc.load_data("documents", path=data[1].partition("=")[2], calibration=4)
    engine = rcc.TextEncoder("run/artifact", device="cpu")
    cosines = (engine.encode("the cat is red") @ engine.encode(list(splits.corpus.texts)).T)[0]
    assert found == [f"d{place}" for place in np.argsort(-cosines, kind="stable")[:5]]
    code, out, err = rcc_run("job=index", "artifact=run/artifact", *data, "store.path=store", *QUIET, "hydra.run.dir=j")
    assert code == 0, err
    assert "store: 0 of 24 texts embedded, 24 were there unchanged" in out


def test_a_recovery_learns_from_titles_and_texts(rcc_run, encoder, data_arguments, tmp_path):
    data = data_arguments("documents")
    code, out, err = rcc_run(
        *encoder, *data, "eval=search", "stage=dare+quant", "trainer=recover", "trainer.epochs=1", "trainer.task=1",
        "trainer.batch_size=4", "gate.threshold=0.01", "gate.on_chance=continue", *QUIET, "hydra.run.dir=run",
    )  # fmt: skip
    assert code == 0, err
    manifest = json.loads((tmp_path / "run/artifact/manifest.json").read_text())
    assert manifest["adapter"] == "text_encoder"
    (again,) = [line for line in out.splitlines() if line.startswith("Measure it again: rcc-run ")]
    code, _, err = rcc_run(*shlex.split(again)[4:], *QUIET, "hydra.run.dir=again")
    assert code == 0, err
