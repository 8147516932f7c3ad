"""Tell what fields a network of the user's own reads, by the names its forward gives them, and make tensors of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rcc.errors import UserError
from rcc.limits import expanded
from rcc.models.batches import parameters_of

PIXELS = "pixel_values"
TOKENS = "input_ids"
TOKENIZER = "tokenizer.json"
IMAGE_NAMES = (PIXELS, "images", "image", "pixels", "x", "inputs", "input", "img")
"""Names under which a forward takes pixels."""
SOUND_NAMES = ("input_features", "input_values", "audio", "waveform", "waves")
"""And those that are sounds, which a network of one input is no network of images by."""
LONGEST = 512
"""Most tokens of a text where the tokenizer does not say."""


@dataclass(frozen=True)
class Fields:
    """What the forward of a network takes: `every` parameter, those it `requires`; which of them are pixels.

    `pixels` is '' where it takes none. A network whose forward has one parameter that must be given is one of images,
    whatever that is called, unless it takes tokens.
    """

    every: tuple[str, ...]
    requires: tuple[str, ...]
    pixels: str

    @classmethod
    def of(cls, module: nn.Module) -> Fields:
        found = parameters_of(module)
        requires = found.requires or found.every[:1]
        named = next((name for name in IMAGE_NAMES if name in found.every), "")
        other = any(name in found.every for name in (TOKENS, *SOUND_NAMES))
        alone = requires[0] if len(requires) == 1 and not other else ""
        return cls(found.every, requires, named or alone)

    @property
    def only_pixels(self) -> bool:
        """Whether pixels are all that must be given: they are then given by position."""
        return bool(self.pixels) and set(self.requires) <= {self.pixels}

    @property
    def tokens(self) -> bool:
        return TOKENS in self.every

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of data: images and texts where it takes them, and every parameter under its own name."""
        made = {"images": bool(self.pixels), "texts": self.tokens}
        return (*(name for name, takes in made.items() if takes), *(name for name in self.every if name not in made))


def tensor_of(name: str, values: Any) -> Tensor:
    """The values of one field, one an item, as a tensor (B, …).

    Raises:
        UserError: they are no numbers, or of shapes that differ.
    """
    arrays = [value.detach().cpu() if isinstance(value, Tensor) else np.asarray(value) for value in values]
    shapes = {tuple(each.shape) for each in arrays}
    if len(shapes) > 1:
        some = ", ".join(str(list(shape)) for shape in sorted(shapes)[:3])
        raise UserError(f"the items of the field '{name}' have several shapes ({some}): pad them to one.")
    try:
        return torch.stack([torch.as_tensor(each) for each in arrays])
    except TypeError as error:
        raise UserError(f"the field '{name}' holds {type(values[0]).__name__} and no numbers.") from error


def read_tokenizer(directory: str | Path | None, beside: Path | None, vocabulary: int | None) -> Any:
    """The tokenizer of `directory`, else the one beside the weights, read from its tokenizer.json alone; None where
    there is none.

    Args:
        vocabulary: tokens that the model embeds, where that is known.

    Raises:
        UserError: `directory` has none, or it cannot be used.
    """
    place = beside if directory is None else expanded("model.tokenizer", directory)
    if place is None or not (place / TOKENIZER).is_file():
        if directory is not None:
            raise UserError(f"model.tokenizer '{directory}' holds no {TOKENIZER}.")
        return None
    from transformers import PreTrainedTokenizerFast  # late: a network of images needs no transformers

    from rcc.models.transformers.configuration import check_files
    from rcc.models.transformers.processor_files import load_tokenizer

    check_files(place)
    return load_tokenizer(str(place), PreTrainedTokenizerFast, sys.maxsize if vocabulary is None else vocabulary)


def tokens_of(tokenizer: Any, texts: Sequence[str], longest: int | None, names: Sequence[str]) -> dict[str, Tensor]:
    """What the tokenizer makes of texts, padded and cut at `longest`: those of its tensors (B, L) called `names`."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    said = int(min(tokenizer.model_max_length, LONGEST)) if longest is None else longest
    found = tokenizer(list(texts), padding=True, truncation=True, max_length=said, return_tensors="pt")
    return {name: tensor for name, tensor in found.items() if name in names}
