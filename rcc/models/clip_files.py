"""The small files of a CLIP directory: config, image processor (without torchvision) and tokenizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPTokenizer

from rcc.errors import UserError

WHERE_IT_CAME_FROM = ("is_local", "local_files_only", "name_or_path", "processor_class")
LEGACY_END = 2  # in configs from before 2023; such a model looks for the highest token id instead


def load_processor(name: str, config: CLIPConfig, local: bool = True) -> tuple[CLIPImageProcessorPil, CLIPTokenizer]:
    """The image processor and the tokenizer of a checkpoint directory or hub name whose config is `config`.

    Raises:
        UserError: the files of either are missing or unreadable, or the tokenizer is not that of the model.
    """
    try:
        image_processor = CLIPImageProcessorPil.from_pretrained(name, local_files_only=local)
        tokenizer = CLIPTokenizer.from_pretrained(name, local_files_only=local)
    except Exception as error:
        raise UserError(_unusable(name, f"{type(error).__name__}: {error}")) from error
    # Without its files, transformers makes a tokenizer that knows nothing and does not complain.
    if not set(tokenizer("a").input_ids) - set(tokenizer.all_special_ids):
        raise UserError(_unusable(name, "the tokenizer's vocabulary is missing"))
    text: CLIPTextConfig = config.text_config  # type: ignore[assignment]
    if len(tokenizer) > text.vocab_size:
        sizes = f"{len(tokenizer)} tokens and the model embeds {text.vocab_size}"
        raise UserError(_unusable(name, f"the tokenizer has {sizes}"))
    if text.eos_token_id not in (LEGACY_END, tokenizer.eos_token_id):
        ends = f"{tokenizer.eos_token_id} and the model looks for {text.eos_token_id}"
        raise UserError(_unusable(name, f"the tokenizer ends a text with token {ends}"))
    return image_processor, tokenizer


def _unusable(name: str, reason: str) -> str:
    return (
        f"'{name}' lacks a usable image processor or tokenizer: {reason}. It needs preprocessor_config.json or"
        " processor_config.json, and tokenizer.json or vocab.json with merges.txt, of the same model."
    )


def save_clip_files(
    config: CLIPConfig, image_processor: CLIPImageProcessorPil, tokenizer: CLIPTokenizer, directory: Path
) -> None:
    """Write config.json, preprocessor_config.json, tokenizer.json and tokenizer_config.json into `directory`.

    The bytes depend on neither where the model was loaded from nor what it was used for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)
    config.architectures = [CLIPModel.__name__]
    config.save_pretrained(directory)
    # The weights say their dtype themselves; the config would say that of the last load.
    _drop(directory / "config.json", ("dtype",))
    image_processor.save_pretrained(directory)
    # The backend remembers the padding and truncation of its last call, and would save them.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(directory)
    _drop(directory / "tokenizer_config.json", WHERE_IT_CAME_FROM)


def _drop(path: Path, keys: Sequence[str]) -> None:
    """Take `keys` out of a JSON file, at every level, and sort the rest."""

    def without(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: without(inner) for key, inner in value.items() if key not in keys}

    path.write_text(json.dumps(without(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
