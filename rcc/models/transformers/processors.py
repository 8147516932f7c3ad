"""Read the processors beside the weights of any model of transformers: of images, texts and sounds.

Classes are those of the library that the files or the configuration name; nothing else is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from rcc.errors import Problems, UserError
from rcc.limits import how_to_raise, limits
from rcc.models.audio.waveform import Waveform, at_rate
from rcc.models.images import pictures
from rcc.models.transformers.checkpoint import quiet
from rcc.models.transformers.configuration import check_image_sizes, has_file, read_file, said
from rcc.models.transformers.pixels import prepared
from rcc.models.transformers.processor_files import load_tokenizer, save_files

FILE = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")
SOUNDS = ("input_features", "input_values")


@dataclass
class Processors:
    """Those that a model has; None for the others."""

    image: Any = None
    tokenizer: Any = None
    sound: Any = None

    def reads(self, takes: Sequence[str]) -> tuple[str, ...]:
        """The fields of data that become what a forward `takes`."""
        made = {
            "images": self.image is not None and "pixel_values" in takes,
            "audio": self.sound is not None and any(name in takes for name in SOUNDS),
            "texts": self.tokenizer is not None and bool({"input_ids", "decoder_input_ids"} & set(takes)),
        }
        return tuple(name for name, there in made.items() if there)

    @property
    def longest(self) -> int | None:
        """Most tokens of a text, where the tokenizer says."""
        found = getattr(self.tokenizer, "model_max_length", None)
        return int(found) if found is not None and found < limits.tokens else None

    def moments(self) -> tuple[list[float], list[float]] | None:
        """(mean, std) of each channel by which the image processor normalises values in [0, 1]; None where it does
        not."""
        image = self.image
        if image is None or not getattr(image, "do_normalize", False) or not getattr(image, "do_rescale", False):
            return None
        mean, std = getattr(image, "image_mean", None), getattr(image, "image_std", None)
        return None if mean is None or std is None else ([float(each) for each in mean], [float(each) for each in std])

    def inputs(self, given: Mapping[str, Any], takes: Sequence[str], longest: int, config: Any) -> dict[str, Tensor]:
        """The tensors made of the images, texts and sounds that are given, by name."""
        batch: dict[str, Tensor] = {}
        if given["images"] is not None and self.image is not None:
            batch |= self._of_images(given["images"])
        if given["audio"] is not None and self.sound is not None:
            batch |= self._of_sounds(given["audio"])
        if given["texts"] is not None and self.tokenizer is not None:
            tokens = self._of_texts(given["texts"], longest)
            if not (config.is_encoder_decoder and set(batch) & set(SOUNDS)):
                batch |= tokens
            if config.is_encoder_decoder and "decoder_input_ids" in takes:
                batch["decoder_input_ids"] = _moved(tokens["input_ids"], config)
        return batch

    def lacking(self, takes: Sequence[str]) -> str:
        """A sentence on the files that would make more of the data readable."""
        if "input_ids" in takes and self.tokenizer is None:
            return "Texts become tokens where tokenizer.json lies beside the weights."
        if "pixel_values" in takes and self.image is None:
            return f"Images become pixels where {FILE} lies beside the weights."
        return "Choose data with fields that it takes."

    def save(self, directory: Path, module: Any) -> None:
        """Write config.json and the processors' files: the same bytes wherever they came from."""
        save_files(directory, type(module).__name__, module.config, self.image or self.sound, self.tokenizer)

    def _of_images(self, images: Any) -> dict[str, Tensor]:
        size = getattr(self.image, "size", None)
        found = pictures(images, size.get("shortest_edge") if isinstance(size, Mapping) else None)
        return {"pixel_values": prepared(self.image, found)}

    def _of_sounds(self, sounds: Any) -> dict[str, Tensor]:
        rate = self.sound.sampling_rate
        waves = [
            at_rate(each, rate)[0] if isinstance(each, Waveform) else np.asarray(each, dtype=np.float32)
            for each in sounds
        ]
        problems = Problems("audio")
        for index, wave in enumerate(waves):
            problems.check(
                wave.ndim == 1 and wave.size > 0,
                f"item {index} has shape {list(wave.shape)}; it must be a waveform of one channel, samples at"
                f" {rate} Hz.",
            )
        problems.done()
        made = self.sound(waves, sampling_rate=rate, return_tensors="pt", padding=_padding(self.sound))
        return {name: tensor for name, tensor in made.items() if isinstance(tensor, Tensor)}

    def _of_texts(self, texts: Any, longest: int) -> dict[str, Tensor]:
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts must be one or more strings; got {texts!r}.")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        made = self.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return dict(made)


def read_processors(where: str, config: Any, local: bool = True) -> Processors:
    """The processors in a checkpoint directory or of a hub name.

    Raises:
        UserError: files that are there and cannot be used, or whose sizes are out of their limits.
    """
    found = Processors()
    if any(has_file(where, name) for name in TOKENIZER_FILES):
        vocabulary = getattr(config.get_text_config(), "vocab_size", None) or limits.tokens
        kind: Any = PreTrainedTokenizerFast if _only_fast(where, local) else _Auto
        found.tokenizer = load_tokenizer(where, kind, vocabulary, local)
    content = read_file(where, FILE, local) if has_file(where, FILE) else {}
    check_numbers(where, content)
    if "image_mean" in content or "image_processor_type" in content:
        check_image_sizes(where, local)
        found.image = _made(where, _image_class(where, content, config), local)
    elif "feature_size" in content or "feature_extractor_type" in content:
        named = content.get("feature_extractor_type") or FEATURE_EXTRACTOR_MAPPING_NAMES.get(config.model_type)
        found.sound = _made(where, _class_of(where, named), local)
    return found


class _Auto:
    """The tokenizer of the class that the files name, if that is the library's own."""

    @staticmethod
    def from_pretrained(where: str, local_files_only: bool) -> Any:
        return AutoTokenizer.from_pretrained(where, local_files_only=local_files_only, trust_remote_code=False)


def _only_fast(where: str, local: bool) -> bool:
    """Whether tokenizer.json is all that there is, or what lies beside it names no class of the library."""
    if not has_file(where, "tokenizer.json"):
        return False
    settings = read_file(where, "tokenizer_config.json", local) if has_file(where, "tokenizer_config.json") else {}
    named = settings.get("tokenizer_class")
    return not isinstance(named, str) or not hasattr(transformers, named) or "auto_map" in settings


def _image_class(where: str, content: Mapping[str, Any], config: Any) -> Any:
    """The image processor's class without torchvision."""
    by_type = IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type)
    named = content.get("image_processor_type") or content.get("feature_extractor_type") or by_type
    named = named.get("pil") if isinstance(named, Mapping) else named
    name = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    return _class_of(where, f"{name}Pil")


def _class_of(where: str, name: Any) -> Any:
    found = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not (isinstance(found, type) and hasattr(found, "from_pretrained")):
        raise UserError(
            f"'{where}': {FILE} names the processor {name!r}, which this version of transformers does not have."
        )
    return found


def _made(where: str, kind: Any, local: bool) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(where, local_files_only=local)
    except Exception as error:
        raise UserError(f"'{where}': {FILE} cannot be used: {said(error)}") from error


def check_numbers(where: str, content: Mapping[str, Any]) -> None:
    """Refuse numbers of a processor that would take memory without bound."""
    problems = Problems(f"{where}: {FILE}")
    for key, value in content.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        problems.check(
            not whole or value <= limits.tokens,
            f"{key} is {value}; at most {limits.tokens} is read. {how_to_raise('tokens')}",
        )
    problems.done()


def _padding(sound: Any) -> Any:
    """Whisper pads every sound to its window by itself; others pad to the longest."""
    return "max_length" if hasattr(sound, "n_samples") else True


def _moved(tokens: Tensor, config: Any) -> Tensor:
    """Tokens (B, L) as a decoder reads them: moved by one place, the start token first."""
    start = getattr(config, "decoder_start_token_id", None)
    start = start if start is not None else getattr(config, "bos_token_id", None) or 0
    return F.pad(tokens[:, :-1], (1, 0), value=int(start)).to(torch.int64)
