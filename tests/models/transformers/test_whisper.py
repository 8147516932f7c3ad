"""Whisper's encoder as an embedder: bits of transformers, what counts of a window, long sounds, files, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from toys.checkpoints import save_whisper
from transformers import WhisperFeatureExtractor, WhisperModel

import rcc
from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.models.audio.waveform import RESAMPLER, Waveform
from rcc.models.registry import adapter_class, load_model
from rcc.models.transformers.whisper import WhisperAdapter

RATE = 16_000
Checkpoint = Callable[[str], Path]


def noise(samples: int) -> np.ndarray:
    return (np.random.default_rng(samples).standard_normal(samples) * 0.1).astype(np.float32)


@pytest.fixture
def whisper(checkpoint_of: Checkpoint) -> Callable[..., WhisperAdapter]:
    return lambda **options: load_model("whisper", path=checkpoint_of("whisper"), device="cpu", **options)


@pytest.fixture
def reference(checkpoint_of: Checkpoint) -> Callable[[np.ndarray], torch.Tensor]:
    """The states of transformers' own encoder, (L, D), for a wave of one window."""
    where = checkpoint_of("whisper")
    encoder = WhisperModel.from_pretrained(where).encoder.eval()
    extractor = WhisperFeatureExtractor.from_pretrained(where)

    @torch.no_grad()
    def states(wave: np.ndarray) -> torch.Tensor:
        features = extractor(wave, sampling_rate=RATE, return_tensors="pt").input_features
        return encoder(features).last_hidden_state[0]

    return states


@pytest.mark.parametrize("samples", [400, 4001, 8000, 16_000])
@torch.no_grad()
def test_states_are_those_of_transformers_to_the_bit(whisper: Any, reference: Any, samples: int) -> None:
    model = whisper()
    assert torch.equal(model.states(model.prepare(noise(samples), RATE))[0], reference(noise(samples)))


@pytest.mark.parametrize(("samples", "positions"), [(400, 2), (4001, 13), (8000, 25), (16_000, 50)])
@torch.no_grad()
def test_pool_signal_is_the_mean_over_the_positions_of_the_sound(
    whisper: Any, reference: Any, samples: int, positions: int
) -> None:
    found = whisper().encode_audio(noise(samples), RATE)
    wanted = F.normalize(reference(noise(samples))[:positions].mean(0), dim=0)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-6)


@torch.no_grad()
def test_pool_all_is_the_mean_over_the_window_and_another_one(whisper: Any, reference: Any) -> None:
    found = whisper(pool="all").encode_audio(noise(4000), RATE)[0]
    torch.testing.assert_close(found, F.normalize(reference(noise(4000)).mean(0), dim=0), rtol=0, atol=1e-6)
    assert float(found @ whisper().encode_audio(noise(4000), RATE)[0]) < 0.9999


@torch.no_grad()
def test_a_long_sound_is_the_mean_over_all_its_windows(whisper: Any, reference: Any) -> None:
    wave = noise(40_000)
    windows = [(wave[:16_000], 50), (wave[16_000:32_000], 50), (wave[32_000:], 25)]
    states = torch.cat([reference(part)[:count] for part, count in windows])
    model = whisper()
    batch = model.prepare([noise(900), wave], RATE)
    assert batch["frames"].tolist() == [[6, 0, 0], [100, 100, 50]]
    found = model.outputs(batch)["audio_embeds"]
    torch.testing.assert_close(found[1], F.normalize(states.mean(0), dim=0), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[0], model.encode_audio(noise(900), RATE)[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_in_clip_a_sound_is_encoded_as_if_it_were_alone_in_its_batch(whisper: Any) -> None:
    model = whisper(context="clip")
    waves = [noise(count) for count in (400, 5000, 16_000, 21_000)]
    together = model.encode_audio(waves, RATE)
    alone = torch.cat([model.encode_audio(wave, RATE) for wave in waves])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    # Of a whole window both contexts are the same function.
    torch.testing.assert_close(together[2], whisper().encode_audio(waves[2], RATE)[0], rtol=0, atol=1e-6)
    assert model.prepare(waves[1], RATE)["input_features"].shape[-1] == 32


def test_in_clip_is_said_to_be_another_function_with_its_cosine(whisper: Any) -> None:
    fields = {"audio": [Waveform(noise(3000 + 10 * index), RATE) for index in range(12)]}
    said = whisper(context="clip").caveat(fields)
    assert "another function than Whisper's: over 8 sounds the cosine" in said
    assert whisper().caveat(fields) == ""
    assert whisper(context="clip").caveat({}) == ""


def test_pool_all_and_context_clip_contradict_each_other(whisper: Any) -> None:
    with pytest.raises(UserError, match="pool=all takes positions that context=clip does not compute"):
        whisper(pool="all", context="clip")
    with pytest.raises(UserError, match=r"pool.*'signals'.*Did you mean 'signal'"):
        whisper(pool="signals")


@pytest.mark.parametrize("architecture", ["WhisperModel", "WhisperForConditionalGeneration", "WhisperEncoder"])
def test_every_checkpoint_of_the_family_gives_the_same_encoder(
    checkpoint_of: Checkpoint, whisper: Any, tmp_path: Path, architecture: str
) -> None:
    path = Path(shutil.copytree(checkpoint_of("whisper"), tmp_path / "copy"))
    weights = load_file(path / "model.safetensors")
    if architecture == "WhisperModel":
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items() if name != "proj_out.weight"}
    if architecture == "WhisperEncoder":
        start = "model.encoder."
        weights = {name.removeprefix(start): each for name, each in weights.items() if name.startswith(start)}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((path / "config.json").read_text()) | {"architectures": [architecture]}
    (path / "config.json").write_text(json.dumps(config))
    model = load_model("auto", path=path, device="cpu")
    assert isinstance(model, WhisperAdapter)
    assert "model=auto takes model=whisper" in model.notes[0]
    assert ("the decoder" in " ".join(model.notes)) is (architecture != "WhisperEncoder")
    assert torch.equal(model.encode_audio(noise(3000), RATE), whisper().encode_audio(noise(3000), RATE))


def test_an_artifact_keeps_pool_context_and_the_name_of_the_resampler(whisper: Any, tmp_path: Path) -> None:
    model = whisper(context="clip")
    write_artifact(model, tmp_path / "artifact", dtype="float32")
    again = load(tmp_path / "artifact")
    assert json.loads((tmp_path / "artifact/audio.json").read_text()) == {
        "context": "clip", "pool": "signal", "resampler": RESAMPLER,
    }  # fmt: skip
    with torch.no_grad():
        sound = Waveform(noise(3000), 8000)
        assert torch.equal(again.encode_audio(sound), model.encode_audio(sound))


def test_files_of_another_resampler_are_refused(checkpoint_of: Checkpoint, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoint_of("whisper"), tmp_path / "copy"))
    (path / "audio.json").write_text('{"resampler": "soxr"}')
    with pytest.raises(UserError, match="resampler 'soxr'"):
        adapter_class("whisper").skeleton(path)


def test_the_loss_brings_sounds_of_one_class_together(whisper: Any) -> None:
    model = whisper()
    batch = model.prepare([noise(2000 + index) for index in range(4)], RATE)
    embeds = model.outputs(batch)["audio_embeds"]
    loss = model.loss({**batch, "labels": torch.tensor([0, 0, 1, 1])})
    logits = (embeds @ embeds.T / 0.1).fill_diagonal_(-torch.inf)
    wanted = -logits.log_softmax(1)[range(4), [1, 0, 3, 2]].mean()
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert model.module.conv1.weight.grad.abs().sum() > 0
    with pytest.raises(UserError, match="needs labels"):
        model.loss(batch)


def test_samples_without_a_rate_and_data_without_sounds_are_refused(whisper: Any) -> None:
    with pytest.raises(UserError, match="has no sampling rate"):
        whisper().prepare([noise(2000)])
    with pytest.raises(UserError, match="reads sounds"):
        whisper().prepare()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dither": 0.1}, "dither is 0.1"),
        ({"feature_size": 16}, "makes spectrograms of 16 bands × 100 frames, and the model takes 8 × 100"),
        ({"chunk_length": 2}, "8 bands × 200 frames"),
        ({"hop_length": 0}, "hop_length is 0"),
        ({"chunk_length": 10**6}, "chunk_length is 1000000"),
        ({"n_fft": 401}, "n_fft is 401; it must be even"),
        ({"padding_value": 1.0}, "padding_value is not 0"),
    ],
)
def test_an_extractor_that_cannot_be_of_the_model_is_refused(
    checkpoint_of: Checkpoint, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = Path(shutil.copytree(checkpoint_of("whisper"), tmp_path / "copy"))
    settings = json.loads((path / "preprocessor_config.json").read_text()) | change
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError) as refused:
        load_model("whisper", path=path, device="cpu")
    assert said in str(refused.value)


def test_a_checkpoint_without_an_extractor_is_refused(checkpoint_of: Checkpoint, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoint_of("whisper"), tmp_path / "copy"))
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json"):
        load_model("whisper", path=path, device="cpu")


def test_a_model_of_another_kind_is_refused_with_the_model_that_takes_it(checkpoint_of: Checkpoint) -> None:
    with pytest.raises(
        UserError, match=r"or one of WhisperModel, WhisperForConditionalGeneration, in config\.json\. Use model=vit"
    ):
        load_model("whisper", path=checkpoint_of("vit"), device="cpu")


def test_embeddings_and_positions_can_be_compressed_too(whisper: Any) -> None:
    model = whisper()
    before = model.encode_audio(noise(5000), RATE)
    for unit in model.units():
        unit.write(unit.read())
    torch.testing.assert_close(model.encode_audio(noise(5000), RATE), before, rtol=0, atol=1e-6)
    assert {unit.role for unit in model.units()} == {"conv", "embedding", "attention", "mlp", "norm"}
    assert {unit.tower for unit in model.units()} == {"audio"}


def test_a_wrapped_checkpoint_loses_its_prefix_and_its_decoder(tmp_path: Path, whisper: Any) -> None:
    path = save_whisper(tmp_path / "whisper")
    weights = load_file(path / "model.safetensors")
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    save_file(wrapped, path / "model.safetensors", metadata={"format": "pt"})
    model = rcc.load_model("whisper", path=path, device="cpu")
    assert torch.equal(model.encode_audio(noise(3000), RATE), whisper().encode_audio(noise(3000), RATE))
