"""Provide embeddings of texts, images and sounds by whichever encoders there are, opened when first asked for.

Vectors of one kind are of one space and can be compared; `kind` is what `rcc.EmbeddingStore` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rcc.artifact.contents import checksum
from rcc.engine.encoding import Embeddings
from rcc.errors import Problems, UserError, listed

TEXT, VISION, AUDIO, CLIP = "text", "vision", "audio", "clip"
ENCODERS = {TEXT: "TextEncoder", VISION: "VisionEncoder", AUDIO: "AudioEncoder", CLIP: "CLIPEngine"}
"""The class of rcc that opens a path, by the name of the parameter."""
METHODS = {TEXT: ("encode",), VISION: ("encode",), AUDIO: ("encode",), CLIP: ("encode_text", "encode_image")}


class Encoder(Protocol):
    """Embeds items of one kind: `rcc.TextEncoder`, `rcc.VisionEncoder`, `rcc.AudioEncoder`, or one of your own."""

    def encode(self, items: Any, /, normalize: bool = True) -> Embeddings:
        """(N, D) float32 embeddings of one item or several, of length 1 where `normalize`."""


@runtime_checkable
class EmbeddingProvider(Protocol):
    """What code that needs embeddings asks for, whoever computes them; code of texts calls `encode_text` alone."""

    def encode_text(self, texts: str | Sequence[str], normalize: bool = True) -> Embeddings:
        """(N, D) of one text or several."""

    def encode_image(self, images: Any, normalize: bool = True) -> Embeddings:
        """(N, D) of one image or several."""

    def encode_audio(self, audio: Any, normalize: bool = True) -> Embeddings:
        """(N, D) of one sound or several."""

    def encode_multimodal(
        self, texts: Any = None, images: Any = None, audio: Any = None, normalize: bool = True
    ) -> dict[str, Encoded]:
        """What is given, each with the space that its vectors are of."""


@dataclass(frozen=True)
class Encoded:
    """Vectors (N, D) and their `kind`, the space that they are of: those of one kind can be compared."""

    kind: str
    vectors: Embeddings


class MultimodalEmbeddingProvider:
    """Embeds by a text, a vision and an audio encoder and by a CLIP, whichever are given.

    >>> provider = rcc.MultimodalEmbeddingProvider(text="minilm", clip="outputs/<date>/<time>/artifact")
    >>> provider.encode_text(["a dog"]).shape
    (1, 384)
    >>> {name: each.kind for name, each in provider.encode_multimodal(texts=["a dog"], images=["a.jpg"]).items()}
    {'texts': 'clip', 'images': 'clip'}

    Args:
        text, vision, audio: an artifact, a checkpoint directory, or an object that encodes, see `Encoder`.
        clip: the same, of two towers with one space, as `rcc.CLIPEngine`.
        options: of the encoders that are opened by a path: device, dtype, batch_size, verify.

    Raises:
        UserError: none is given, or one is neither a path nor an object that encodes.
    """

    def __init__(
        self, *, text: Any = None, vision: Any = None, audio: Any = None, clip: Any = None, **options: Any
    ) -> None:
        given = {TEXT: text, VISION: vision, AUDIO: audio, CLIP: clip}
        self._given = {name: each for name, each in given.items() if each is not None}
        self._opened: dict[str, Any] = {}
        self._options = options
        problems = Problems("MultimodalEmbeddingProvider")
        problems.check(bool(self._given), f"no encoder is given; give one or more of {', '.join(ENCODERS)}.")
        for name, each in self._given.items():
            lacking = [method for method in METHODS[name] if not callable(getattr(each, method, None))]
            problems.check(
                isinstance(each, str | Path) or not lacking,
                f"{name} is {type(each).__name__}; give the path of a model, or an object with {listed(lacking)}.",
            )
        problems.done()

    def encoder(self, kind: str) -> Any:
        """The encoder of a kind, 'text', 'vision', 'audio' or 'clip', opened when first asked for.

        Raises:
            UserError: it was not given, or cannot be opened.
        """
        if kind not in self._given:
            there = ", ".join(self._given)
            raise UserError(
                f"this provider has no {kind} encoder, only {there}: MultimodalEmbeddingProvider({kind}=<directory>)."
            )
        if kind not in self._opened:
            given = self._given[kind]
            if isinstance(given, str | Path):
                given = getattr(import_module("rcc"), ENCODERS[kind])(given, **self._options)
            self._opened[kind] = given
        return self._opened[kind]

    def checksum(self, kind: str) -> str:
        """The checksum of the weights behind a kind, to which a store of its vectors is bound; '' of an object of your
        own that holds no model."""
        model = getattr(self.encoder(kind), "model", None)
        return "" if model is None else checksum(model.module)

    def encode_text(self, texts: str | Sequence[str], normalize: bool = True) -> Embeddings:
        """(N, D) of one text or several: by the text encoder, else by the text tower of the CLIP.

        Raises:
            UserError: there is neither.
        """
        if CLIP in self._given and TEXT not in self._given:
            return self._of_clip("encode_text", texts, normalize)
        return self._of(TEXT, texts, normalize)

    def encode_image(self, images: Any, normalize: bool = True) -> Embeddings:
        """(N, D) of one image or several: by the vision encoder, else by the vision tower of the CLIP.

        Raises:
            UserError: there is neither.
        """
        if CLIP in self._given and VISION not in self._given:
            return self._of_clip("encode_image", images, normalize)
        return self._of(VISION, images, normalize)

    def encode_audio(self, audio: Any, normalize: bool = True) -> Embeddings:
        """(N, D) of one sound or several.

        Raises:
            UserError: there is no audio encoder.
        """
        return self._of(AUDIO, audio, normalize)

    def encode_multimodal(
        self, texts: Any = None, images: Any = None, audio: Any = None, normalize: bool = True
    ) -> dict[str, Encoded]:
        """What is given, by 'texts', 'images' and 'audio': texts and images in the one space of the CLIP where there is
        one, else each by its own encoder. Vectors of different kinds are never to be compared.

        Raises:
            UserError: nothing is given, or an encoder of something is missing.
        """
        given = {"texts": texts, "images": images, "audio": audio}
        wanted = {name: values for name, values in given.items() if values is not None}
        if not wanted:
            raise UserError("nothing to encode: give texts, images, audio, or several of them.")
        own = {"texts": TEXT, "images": VISION, "audio": AUDIO}
        of_clip = {"texts": "encode_text", "images": "encode_image"} if CLIP in self._given else {}
        found = {}
        for name, values in wanted.items():
            if name in of_clip:
                found[name] = Encoded(CLIP, self._of_clip(of_clip[name], values, normalize))
            else:
                found[name] = Encoded(own[name], self._of(own[name], values, normalize))
        return found

    def _of(self, kind: str, values: Any, normalize: bool) -> Embeddings:
        found: Embeddings = self.encoder(kind).encode(values, normalize=normalize)
        return found

    def _of_clip(self, method: str, values: Any, normalize: bool) -> Embeddings:
        found: Embeddings = getattr(self.encoder(CLIP), method)(values, normalize=normalize)
        return found
