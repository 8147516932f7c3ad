"""Declare the abilities beyond outputs that an evaluator may ask of a model with `isinstance`.

An evaluator that needs an ability which the model lacks says so, with what the model does give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Captioner(Protocol):
    """Writes texts about images."""

    def generate_caption(self, images: Any, **settings: Any) -> list[str]:
        """One caption for each of the B images; `settings` are those of the generation."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Embeds texts in the space of its images."""

    def encode_text(self, texts: Any) -> Tensor:
        """(T, D) normalised embeddings of T texts."""
        ...


@runtime_checkable
class AudioEncoder(Protocol):
    """Embeds sounds."""

    def encode_audio(self, audio: Any, sampling_rate: int | None = None) -> Tensor:
        """(B, D) normalised embeddings of one sound or several: a `Waveform` each, or samples at `sampling_rate`."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Looks at an image and a text together, which two embeddings cannot."""

    def match(self, images: Any, texts: Sequence[str]) -> Tensor:
        """(B,) probabilities that text i describes image i."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Tells the class of an image: its outputs have `logits` (B, classes)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits; () where the model does not know them."""
        ...


@runtime_checkable
class Prompting(Protocol):
    """Puts words before a text that say what it is for: `prepare(texts=…, prompt=<name>)` takes the name of some."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """The words by name."""
        ...

    def prompt_for(self, purpose: str) -> str | None:
        """The name of the prompt of texts of a purpose, 'query' or 'document'; None for that of all others."""
        ...


def prompt_of(model: object, purpose: str) -> str | None:
    """The name of the prompt that texts of a purpose have; None where the model has none for them."""
    return model.prompt_for(purpose) if isinstance(model, Prompting) else None
