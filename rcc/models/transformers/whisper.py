"""Adapt Whisper's encoder as an embedder of sounds: of any checkpoint of the family, whose decoder is left out.

Source: Radford et al., "Robust speech recognition via large-scale weak supervision" (2022). Whisper pads every sound to
a window of 30 s and attends to all of it; what counts of its 1,500 positions, and what they may look at, are options.

Shapes: B sounds, W windows of the longest, M mel bands, T frames, L positions (two frames each), D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from rcc.errors import Problems, UserError
from rcc.layers.gather import gathered
from rcc.layers.model import Batch
from rcc.limits import limits
from rcc.models.audio.mel import LogMel
from rcc.models.audio.waveform import HIGHEST_RATE, RESAMPLER, at_rate, windows
from rcc.models.batches import LABELS
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device, pick_dtype
from rcc.models.own.module import ModuleAdapter
from rcc.models.roles import roles_of
from rcc.models.supervised_contrastive import supervised_contrastive_loss
from rcc.models.transformers.checkpoint import HOW_TO_GIVE, architectures_of, check_architecture, load_weights, locate
from rcc.models.transformers.configuration import empty_model, has_file, read_config, read_file, said
from rcc.models.transformers.processor_files import save_files
from rcc.models.transformers.processors import FILE, check_numbers

SIGNAL, ALL = "signal", "all"
POOLS = (SIGNAL, ALL)
DEFAULT_ROLES = ("attention", "mlp", "conv")
FULL, CLIP = "full", "clip"
CONTEXTS = (FULL, CLIP)
DESCRIPTION = "audio.json"
"""In an artifact: pool, context and resampler."""
HOLDERS = ("WhisperModel", "WhisperForConditionalGeneration")
WITHIN, BESIDE = r"(?:model\.)?encoder\.", r"(?:model\.)?decoder\.|proj_out\."
"""How the names of its weights begin in files of these, and those of the rest."""
PROCESSOR = "processor_config.json"
"""Where transformers 5 writes the extractor's settings with those of a tokenizer."""
COMPARED = 8


class WhisperAdapter(ModuleAdapter):
    """Embeds sounds of any length, rate and number of channels; roles as `roles_of` tells them, one tower, audio.

    Args:
        module: the encoder; it is changed in place.
        extractor: the settings by which samples become log-mel spectrograms.
        pool: which positions an embedding is the mean of: those of the sound ('signal'), or those of the padding too
            ('all'): of a sound of 3 s nine in ten are padding.
        context: what a position attends to: the whole window ('full'), as Whisper was trained, or the positions of the
            sound alone ('clip'): less to compute, and another function.
    """

    name: ClassVar[str] = "whisper"
    reads: Sequence[str] = ("audio",)
    batch_names: Sequence[str] | None = ("input_features", "frames")
    module: Any

    def __init__(
        self, module: Any, extractor: WhisperFeatureExtractor, pool: str = SIGNAL, context: str = FULL
    ) -> None:
        problems = Problems("model 'whisper'")
        problems.choice("pool", pool, POOLS)
        problems.choice("context", context, CONTEXTS)
        problems.check(
            (pool, context) != (ALL, CLIP), "pool=all takes positions that context=clip does not compute; choose one."
        )
        problems.done()
        role = roles_of(module)
        super().__init__(module, roles=lambda name, kind: (role(name, kind)[0], "audio"), default_roles=DEFAULT_ROLES)
        self.extractor, self.pool, self.context = extractor, pool, context
        self.mel = _log_mel(extractor)
        self.reads = ("audio",)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        pool: str | None = None,
        context: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> Self:
        """Load a checkpoint directory, or a hub name from the local cache or the hub, in evaluation mode.

        Args:
            pool, context: see the class; None for what a directory that was made of an artifact says.

        Raises:
            UserError: it cannot be found, is no Whisper, lacks a weight of the encoder or has one too many, holds a
                NaN, is pickled, or its extractor's settings cannot be used or are not of this model.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        if path is None:
            raise UserError(f"model '{cls.name}' needs a path: a checkpoint directory or a hub name. {HOW_TO_GIVE}.")
        where, local = locate(path)
        config, extractor = _read(where, local)
        module: Any = load_weights(where, WhisperEncoder, precision, config, local, WITHIN, BESIDE)
        if gradient_checkpointing:
            mark_blocks(module, f"model '{cls.name}'")
        chosen = {name: value for name, value in (("pool", pool), ("context", context)) if value is not None}
        adapter = cls(module.to(place), extractor, **{**_description(Path(where)), **chosen})
        if holder := [each for each in architectures_of(where, local) if each in HOLDERS]:
            adapter.notes = (
                f"of the {holder[0]} in '{where}' the encoder is taken, which embeds sounds; the decoder, which writes"
                " what was said, is left out. model=transformers takes both.",
            )
        return adapter.eval()

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        """The encoder of the config.json in `directory` (or of a hub name): parameters on the meta device, buffers
        real, no weight read."""
        where, local = locate(directory, weights=False)
        config, extractor = _read(where, local)
        return cls(empty_model(where, WhisperEncoder, config), extractor, **_description(Path(where))).eval()

    # Adapter.

    def prepare(self, audio: Any = None, sampling_rate: int | None = None, **others: Any) -> Batch:  # type: ignore[override]
        """`input_features` (B, W, M, T) and `frames` (B, W), how many of the T are of the sound, for sounds: see
        `at_rate`. Of one that is longer than a window, windows follow each other.

        Raises:
            UserError: nothing to read, or a sound that `at_rate` refuses.
        """
        if audio is None:
            there = " and ".join(others) or "nothing"
            raise UserError(f"the model '{self.name}' reads sounds (audio), and what came is {there}.")
        sounds = [windows(wave, self.mel.samples) for wave in at_rate(audio, self.mel.rate, sampling_rate)]
        frames = torch.zeros(len(sounds), max(map(len, sounds)), dtype=torch.int64)
        features = torch.zeros(*frames.shape, self.mel.mels, self.mel.frames)
        for place, parts in enumerate(sounds):
            frames[place, : len(parts)] = torch.tensor([self.mel.frames_of(len(part)) for part in parts])
            features[place, : len(parts)] = self.mel(parts)
        if self.context == CLIP:
            features = features[..., : 2 * int(_positions(frames.max()))]
        dtype = next(self.module.parameters()).dtype
        return {"input_features": features.to(self.device, dtype), "frames": frames.to(self.device)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`audio_embeds` (B, D): the mean of the last states over the positions that count, of length 1."""
        return {name: F.normalize(each, dim=-1) for name, each in self.projected(batch).items()}

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        """The same before they are normalised."""
        if "input_features" not in batch:
            raise UserError(f"a batch of '{self.name}' needs input_features and frames; this one has {sorted(batch)}.")
        states, frames = self.states(batch), batch["frames"]
        there = frames > 0
        counted = _counted(frames[there], states.shape[1]) if self.pool == SIGNAL else states.new_ones(states.shape[:2])
        sums, counts = (states.float() * counted[..., None]).sum(1), counted.float().sum(1)
        whose = there.nonzero()[:, 0]
        total = sums.new_zeros(len(frames), sums.shape[1]).index_add(0, whose, sums)
        number = counts.new_zeros(len(frames)).index_add(0, whose, counts)
        return {"audio_embeds": (total / number[:, None]).to(states.dtype)}

    def states(self, batch: Batch) -> Tensor:
        """(n, L, D) states of the last layer for the n windows that there are, sound by sound."""
        frames = batch["frames"]
        there = frames > 0
        features = batch["input_features"][there]
        if self.context == FULL:
            return self.module(features).last_hidden_state  # type: ignore[no-any-return]
        return _in_clip(self.module, features, frames[there])

    def loss(self, batch: Batch) -> Tensor:
        """The supervised contrastive loss of the embeddings, see `supervised_contrastive_loss`; in several processes of
        all their sounds.

        Raises:
            UserError: the batch has no labels, or no two sounds of one class.
        """
        if LABELS not in batch:
            raise UserError(f"the loss of '{self.name}' needs labels; this batch has {sorted(batch)}.")
        return supervised_contrastive_loss(gathered(self.outputs(batch)["audio_embeds"]), gathered(batch[LABELS]))

    def encode_audio(self, audio: Any, sampling_rate: int | None = None) -> Tensor:
        """(B, D) embeddings of length 1 of one sound or several, see `prepare`. Gradients flow only while the module is
        in training mode."""
        with torch.set_grad_enabled(self.module.training and torch.is_grad_enabled()):
            return self.outputs(self.prepare(audio, sampling_rate))["audio_embeds"]

    def caveat(self, fields: Mapping[str, Any]) -> str:
        """Of context=clip, how far its embeddings of some sounds are from those of the whole window."""
        there = fields.get("audio", ())
        sounds = [there[place] for place in range(min(COMPARED, len(there)))]
        if self.context == FULL or not sounds:
            return ""
        whole = type(self)(self.module, self.extractor, self.pool)
        with torch.no_grad():
            cosines = (self.encode_audio(sounds) * whole.encode_audio(sounds)).sum(1)
        return (
            f"context=clip attends to the sound alone, which is another function than Whisper's: over {len(sounds)}"
            f" sounds the cosine of its embeddings with those of context=full is {cosines.mean():.3f} on average and"
            f" {cosines.min():.3f} at least."
        )

    def save_files(self, directory: Path) -> None:
        """Write config.json, the extractor's settings, and pool, context and resampler."""
        save_files(directory, WhisperEncoder.__name__, self.module.config, self.extractor)
        told = {"pool": self.pool, "context": self.context, "resampler": RESAMPLER}
        (directory / DESCRIPTION).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")


def _read(where: str, local: bool) -> tuple[Any, WhisperFeatureExtractor]:
    check_architecture(where, WhisperEncoder, local, HOLDERS)
    config = read_config(where, WhisperConfig, local)
    return config, _extractor(where, config, local)


def _extractor(where: str, config: Any, local: bool) -> WhisperFeatureExtractor:
    """The settings of the extractor beside the weights.

    Raises:
        UserError: there are none, they cannot be used, or make other spectrograms than the encoder takes.
    """
    file = next((name for name in (FILE, PROCESSOR) if has_file(where, name)), None)
    if file is None:
        raise UserError(f"'{where}' has no {FILE}, which says how its samples become spectrograms.")
    content = read_file(where, file, local)
    inner = content.get("feature_extractor")
    settings = inner if isinstance(inner, dict) else content
    check_numbers(where, settings)
    problems = Problems(f"{where}: {file}")
    for name, most in (("chunk_length", limits.audio_seconds), ("sampling_rate", HIGHEST_RATE), ("n_fft", 1 << 16)):
        problems.whole(name, settings.get(name, 1), 1, most)
    problems.whole("hop_length", settings.get("hop_length", 1), 1)
    problems.check(
        not settings.get("dither"), f"dither is {settings.get('dither')}: noise is not added to what is embedded."
    )
    problems.check(not settings.get("padding_value"), "padding_value is not 0: sounds are padded with silence.")
    problems.done()
    try:
        extractor = WhisperFeatureExtractor.from_pretrained(where, local_files_only=local)
        mel = _log_mel(extractor)
    except Exception as error:
        raise UserError(f"'{where}': {file} cannot be used: {said(error)}") from error
    made, wanted = (mel.mels, mel.frames), (config.num_mel_bins, 2 * config.max_source_positions)
    problems.check(
        made == wanted,
        f"it makes spectrograms of {made[0]} bands × {made[1]} frames, and the model takes {wanted[0]} × {wanted[1]}.",
    )
    problems.check(
        mel.width % 2 == 0 and mel.width <= mel.samples,
        f"n_fft is {mel.width}; it must be even, and fit into a window.",
    )
    problems.done()
    return extractor


def _log_mel(extractor: WhisperFeatureExtractor) -> LogMel:
    return LogMel(
        extractor.feature_size, extractor.sampling_rate, extractor.hop_length, extractor.n_fft, extractor.chunk_length
    )


def _description(directory: Path) -> dict[str, str]:
    """Pool and context of an artifact; those by default of any other directory.

    Raises:
        UserError: it was made by another resampler than this version has.
    """
    if not has_file(str(directory), DESCRIPTION):
        return {}
    told = read_file(str(directory), DESCRIPTION)
    problems = Problems(f"{directory}: {DESCRIPTION}")
    problems.choice("resampler", str(told.get("resampler")), (RESAMPLER,))
    problems.done()
    return {name: str(told[name]) for name in ("pool", "context") if name in told}


def _positions(frames: Tensor) -> Tensor:
    """The positions that frames take, two each: the second convolution has a stride of 2."""
    return (frames + 1) // 2


def _counted(frames: Tensor, length: int) -> Tensor:
    """(n, L) whether each position is of the sound."""
    return torch.arange(length, device=frames.device) < _positions(frames)[:, None]


def _in_clip(encoder: Any, features: Tensor, frames: Tensor) -> Tensor:
    """The encoder's own forward, which takes whole windows and nothing else, on the first positions alone; each
    attends to those of its sound.

    A spectrogram beyond its sound is zero here, as the convolutions pad: each is encoded as if it were alone.
    """
    inside = torch.arange(features.shape[2], device=frames.device) < 2 * _positions(frames)[:, None]
    hidden = F.gelu(encoder.conv1(features * inside[:, None].to(features.dtype)))
    hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions(torch.arange(hidden.shape[1], device=hidden.device))
    mask = _counted(frames, hidden.shape[1])[:, None, None]
    attended = torch.zeros(mask.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~mask, -torch.inf)
    for layer in encoder.layers:
        hidden = layer(hidden, attended.expand(-1, -1, hidden.shape[1], -1))
    found: Tensor = encoder.layer_norm(hidden)
    return found
