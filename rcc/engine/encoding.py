"""Encode texts, images and sounds in batches by any model that embeds them: each text once, of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcc.engine.images import several, taken
from rcc.engine.sounds import several_sounds, taken_sound
from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

Embeddings = NDArray[np.float32]
TEXTS, IMAGES, SOUNDS = "text_embeds", "image_embeds", "audio_embeds"
LARGEST = 32
"""Items in one forward pass, unless said: more gain little on a CPU."""
Outputs = Callable[[Batch], dict[str, Tensor]]


def encoded_texts(
    model: Adapter,
    texts: str | Sequence[str],
    size: int = LARGEST,
    outputs: Outputs | None = None,
    prompt: str | None = None,
) -> Embeddings:
    """(T, D) embeddings of one text or several, in order.

    A text that occurs several times is computed once, and texts of similar length share a batch, which is padded to its
    longest: the embeddings are those of any other order but for rounding.

    Args:
        size: texts in one forward pass.
        outputs: what gives the embeddings of a batch, by default the model's own.
        prompt: the name of what a model of prompts puts before each text, see `rcc.models.abilities.Prompting`.

    Raises:
        UserError: no text, an item that is none, or the model embeds no texts.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    strange = [place for place, text in enumerate(texts) if not isinstance(text, str)]
    if not texts or strange:
        found = f"item {strange[0]} is {type(texts[strange[0]]).__name__}" if strange else "there are none"
        raise UserError(f"texts must be one or more strings; {found}.")
    unique = sorted(set(texts), key=lambda text: (len(text), text))
    place = {text: index for index, text in enumerate(unique)}
    named = {} if prompt is None else {"prompt": prompt}
    batches = ahead(lambda part: model.prepare(texts=part, **named), _parts(unique, size))
    return _encoded(model, batches, TEXTS, outputs)[[place[text] for text in texts]]


def encoded_images(model: Adapter, images: Any, size: int = LARGEST, outputs: Outputs | None = None) -> Embeddings:
    """(N, D) embeddings of one image or several, in order; see `several` for what they may be.

    Raises:
        UserError: no image, an item of another kind or that cannot be decoded, or the model embeds no images.
    """
    batches = ahead(lambda part: model.prepare(images=[taken(image) for image in part]), _parts(several(images), size))
    return _encoded(model, batches, IMAGES, outputs)


def ahead(prepare: Callable[[Any], Batch], parts: Iterable[Any]) -> Iterator[Batch]:
    """The batches of the parts in order, the next one prepared in a thread of its own while one is computed."""
    with ThreadPoolExecutor(1) as thread:
        waiting: Future[Batch] | None = None
        for part in parts:
            following = thread.submit(prepare, part)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def encoded_sounds(
    model: Adapter,
    audio: Any,
    size: int = LARGEST,
    outputs: Outputs | None = None,
    sampling_rate: int | None = None,
) -> Embeddings:
    """(N, D) embeddings of one sound or several, in order; see `several_sounds` for what they may be.

    Args:
        sampling_rate: of arrays, in Hz.

    Raises:
        UserError: no sound, an item of another kind or that cannot be decoded, or the model embeds no sounds.
    """
    if "audio" not in model.reads:
        raise UserError(f"the model '{model.name}' reads {', '.join(model.reads)}, and no sounds.")

    def prepared(part: Sequence[Any]) -> Batch:
        return model.prepare(audio=[taken_sound(sound, sampling_rate) for sound in part])

    return _encoded(model, ahead(prepared, _parts(several_sounds(audio), size)), SOUNDS, outputs)


@torch.inference_mode()
def _encoded(model: Adapter, batches: Iterable[Batch], name: str, outputs: Outputs | None) -> Embeddings:
    found = []
    for batch in batches:
        given = (outputs or model.outputs)(batch)
        if name not in given:
            raise UserError(f"the model '{model.name}' gives {', '.join(given)}, and no {name}: it embeds nothing.")
        found.append(given[name].float().cpu())
    return torch.cat(found).numpy()


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
