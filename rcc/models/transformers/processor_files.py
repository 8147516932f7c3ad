"""Read and write the small files of a checkpoint: config, image processor (without torchvision), tokenizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from rcc.atomic import foreign_errors
from rcc.errors import UserError, listed
from rcc.models.transformers.checkpoint import quiet
from rcc.models.transformers.configuration import check_image_sizes

WHERE_IT_CAME_FROM = ("is_local", "local_files_only", "name_or_path", "processor_class")

ImageProcessor = TypeVar("ImageProcessor", bound=Any)
Tokenizer = TypeVar("Tokenizer", bound=PreTrainedTokenizerFast)


def load_image_processor(
    name: str, kind: type[ImageProcessor], shape: tuple[int, int, int], local: bool = True
) -> ImageProcessor:
    """The image processor of a checkpoint directory or hub name.

    Args:
        shape: (channels, height, width) of the pixels that the model takes.

    Raises:
        UserError: its file is missing or unreadable, or it makes pixels of another shape.
    """
    check_image_sizes(name, local)
    try:
        processor: ImageProcessor = kind.from_pretrained(name, local_files_only=local)
        made = processor(images=Image.new("RGB", (shape[2], shape[1])), return_tensors="pt")["pixel_values"]
    except Exception as error:
        raise UserError(_unusable(name, f"{type(error).__name__}: {error}")) from error
    if tuple(made.shape[1:]) != shape:
        sizes = f"{_sizes(tuple(made.shape[1:]))} and the model takes {_sizes(shape)}"
        raise UserError(_unusable(name, f"the image processor makes pixels of {sizes}"))
    return processor


def load_tokenizer(name: str, kind: type[Tokenizer], vocabulary: int, local: bool = True) -> Tokenizer:
    """The tokenizer of a checkpoint directory or hub name, for a model that embeds `vocabulary` tokens.

    Raises:
        UserError: its files are missing or unreadable, or it has more tokens than that.
    """
    try:
        with quiet():  # the files may name another class, whose own code is not needed
            tokenizer: Tokenizer = kind.from_pretrained(name, local_files_only=local)
            # A setting of a wrong type goes unseen until it is used.
            ids, tokens = set(tokenizer("a", truncation=True, padding=True).input_ids), len(tokenizer)
            known = ids - set(tokenizer.all_special_ids)
    except Exception as error:
        raise UserError(_unusable(name, f"{type(error).__name__}: {error}")) from error
    # Without its files, transformers makes a tokenizer that knows nothing and does not complain.
    if not known:
        raise UserError(_unusable(name, "the tokenizer's vocabulary is missing"))
    if tokens > vocabulary:
        raise UserError(_unusable(name, f"the tokenizer has {tokens} tokens and the model embeds {vocabulary}"))
    return tokenizer


def check_end(name: str, ends: int | None, wanted: int | None) -> None:
    """Refuse a tokenizer that does not end a text with the token that the model looks for.

    Raises:
        UserError: it ends with another token.
    """
    if wanted != ends:
        raise UserError(
            _unusable(name, f"the tokenizer ends a text with token {ends} and the model looks for {wanted}")
        )


def check_end_is_highest(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a tokenizer with tokens after the end token, for a model that pools a text at its highest token id.

    Raises:
        UserError: names such tokens; a text with one of them would be pooled there and not at its end.
    """
    end = tokenizer.eos_token_id
    later = [token for token, number in tokenizer.get_vocab().items() if end is None or number > end]
    if later:
        raise UserError(
            _unusable(
                name,
                f"the tokenizer ends a text with token {end} and has tokens after it: {listed(map(repr, later))}. The"
                " model takes the highest token id for the end of a text, as its config.json has eos_token_id 2; if it"
                f" was trained with the added tokens, write eos_token_id {end} into the text_config",
            )
        )


def save_files(
    directory: Path,
    architecture: str,
    config: PretrainedConfig,
    image_processor: Any,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:
    """Write config.json and, with an image processor (or one of sounds), preprocessor_config.json; with a tokenizer,
    tokenizer.json and tokenizer_config.json.

    The bytes depend on neither where the model was loaded from nor what it was used for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)
    config.architectures = [architecture]
    config.save_pretrained(directory)
    # The weights say their dtype themselves; the config would say that of the last load.
    rewrite(directory / "config.json", ("dtype",))
    if image_processor is not None:
        image_processor.save_pretrained(directory)
    if tokenizer is not None:
        save_tokenizer(directory, tokenizer)


def save_tokenizer(directory: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write tokenizer.json and tokenizer_config.json, whatever the tokenizer was used for."""
    # The backend remembers the padding and truncation of its last call, and would save them.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    with foreign_errors(directory):
        tokenizer.save_pretrained(directory)
    rewrite(directory / "tokenizer_config.json", WHERE_IT_CAME_FROM)


def rewrite(path: Path, without: Sequence[str]) -> None:
    """Take the keys `without` out of a JSON file, at every level, and sort the rest."""

    def left(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: left(inner) for key, inner in value.items() if key not in without}

    path.write_text(json.dumps(left(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape)


def _unusable(name: str, reason: str) -> str:
    return (
        f"'{name}' lacks a usable image processor or tokenizer: {reason}. It needs preprocessor_config.json or"
        " processor_config.json and, where the model reads texts, tokenizer.json or the vocabulary's own files, of the"
        " same model."
    )
