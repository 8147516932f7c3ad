"""Speech from the command line: indexed, searched by a sound, converted there and back."""

import json

import pytest
from toys.files import sound
from transformers.models.whisper.modeling_whisper import WhisperEncoder

import rcc


@pytest.fixture
def speech(model_arguments, data_arguments):
    return (*model_arguments("whisper"), *data_arguments("speech_folder"), "threads=1", "device=cpu")


def test_sounds_are_indexed_and_found_by_a_sound(rcc_run, speech, data_set, tmp_path):
    code, out, err = rcc_run("job=index", *speech, "store.path=store", "split=test", "hydra.run.dir=one")
    assert code == 0, err
    assert "store: 10 of 10 audio embedded" in out
    assert "query=a path of a sound" in out
    (first, *_) = sorted(rcc.EmbeddingStore("store").ids())
    model = [word for word in speech if word.startswith("model")]
    search = ("job=search", *model, "store.path=store", "threads=1", "top_k=2")
    code, out, err = rcc_run(*search, f"query={data_set('speech_folder') / first}")
    assert code == 0, err
    assert [line for line in out.splitlines() if first in line and "1.0000" in line]
    code, _, err = rcc_run(*search, "query=a voice")
    assert code == 2
    assert "reads audio and no texts: give the path of a file" in err
    code, _, err = rcc_run(*search, "query=none.wav")
    assert code == 2
    assert "there is no such sound" in err
    code, out, err = rcc_run("job=index", *speech, "store.path=store", "split=test", "hydra.run.dir=two")
    assert code == 0, err
    assert "0 of 10 audio embedded, 10 were there unchanged" in out


def test_a_whisper_becomes_an_artifact_of_its_encoder_and_a_dense_directory_again(
    rcc_run, tmp_path, speech, checkpoint_of
):
    code, out, err = rcc_run("job=convert", *speech, "parity=5", "out=made", "hydra.run.dir=one")
    assert code == 0, err
    assert "the decoder, which writes what was said, is left out" in out
    assert "audio_embeds" in out
    code, out, err = rcc_run(
        "job=convert", "artifact=made", "to=huggingface", "out=dense", "parity=5", *speech[2:], "hydra.run.dir=two"
    )
    assert code == 0, err
    _, info = WhisperEncoder.from_pretrained("dense", output_loading_info=True)
    assert not any(info.values())
    assert json.loads((tmp_path / "dense/config.json").read_text())["architectures"] == ["WhisperEncoder"]
    dense, source = (rcc.AudioEncoder(path).encode(sound(1)) for path in ("dense", checkpoint_of("whisper")))
    assert float((dense * source).sum()) > 0.999
