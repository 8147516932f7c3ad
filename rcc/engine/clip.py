"""Embed and compare texts and images by a model of two towers (CLIP, SigLIP), dense or compressed.

Shapes: T texts, N images, D dimensions of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rcc.engine.encoding import Embeddings, encoded_images, encoded_texts
from rcc.engine.opening import OpensModel
from rcc.errors import Problems, UserError
from rcc.models.adapter import Adapter
from rcc.models.transformers.dual import DualEncoder


@dataclass(frozen=True)
class CLIPConfig:
    """The widths of a model of two towers.

    Raises:
        UserError: one is no whole number from 1 up.
    """

    text_embedding_dim: int = 384
    vision_embedding_dim: int = 768
    projection_dim: int = 512

    def __post_init__(self) -> None:
        problems = Problems("CLIPConfig")
        for name in ("text_embedding_dim", "vision_embedding_dim", "projection_dim"):
            problems.whole(name, getattr(self, name), 1)
        problems.done()

    @classmethod
    def of(cls, model: DualEncoder) -> CLIPConfig:
        """Those that a model has."""
        config = model.module.config
        vision, text = model._vision_config(config).hidden_size, model._text_config(config).hidden_size
        shared = getattr(config, "projection_dim", None) or getattr(model._text_config(config), "projection_size", None)
        return cls(text, vision, shared or vision)


class CLIPEngine(OpensModel[DualEncoder]):
    """Embeds texts and images into one space, compares them, and finds the best of many.

    >>> engine = rcc.CLIPEngine("outputs/<date>/<time>/artifact")
    >>> engine.find_best_matches(["a dog on grass"], ["a.jpg", "b.jpg", "c.jpg"], top_k=2)
    [[2, 0]]

    Files are opened at the first call that needs the model.

    Args: see `OpensModel`.

    Raises:
        UserError: the path holds no model; one of another kind is refused by name when it is opened.
    """

    def _taken(self, model: Adapter) -> DualEncoder:
        if not isinstance(model, DualEncoder):
            raise UserError(
                f"{self.path} holds a model '{model.name}', which has no projections of texts and images to one space."
                " CLIPEngine takes a CLIP or a SigLIP."
            )
        return model

    @cached_property
    def config(self) -> CLIPConfig:
        """The widths of the model."""
        return CLIPConfig.of(self.model)

    @property
    def logit_scale(self) -> float:
        """The logarithm of what cosines are multiplied by, as it was learned."""
        return float(self.model.module.logit_scale.detach())

    def encode_text(self, texts: str | Sequence[str], normalize: bool = True) -> Embeddings:
        """(T, D) embeddings of one text or several, in order, of length 1 where `normalize`.

        A text that occurs several times is computed once, and texts of similar length share a batch, which is padded to
        its longest: the embeddings are those of any other order but for rounding. A text beyond the model's context is
        cut there.

        Raises:
            UserError: no text, or an item that is none.
        """
        return encoded_texts(self.model, texts, self.batch_size, None if normalize else self.model.projected)

    def encode_image(self, images: Any, normalize: bool = True) -> Embeddings:
        """(N, D) embeddings of one image or several, in order: paths, bytes of files, PIL images, uint8 arrays
        (H, W, 3), or one array (N, H, W, 3).

        Raises:
            UserError: no image, an item of another kind, or one that cannot be decoded.
        """
        return encoded_images(self.model, images, self.batch_size, None if normalize else self.model.projected)

    def compute_similarity(
        self, text_embeddings: Any, image_embeddings: Any, apply_temperature: bool = True
    ) -> Embeddings:
        """(T, N) cosines of embeddings (T, D) and (N, D), times exp(logit_scale) where `apply_temperature`.

        Raises:
            UserError: an array of another shape, or of another number of dimensions than the other.
        """
        texts, images = _unit_rows("text_embeddings", text_embeddings), _unit_rows("image_embeddings", image_embeddings)
        if texts.shape[1] != images.shape[1]:
            raise UserError(
                f"text_embeddings have {texts.shape[1]} dimensions and image_embeddings {images.shape[1]}: they are of"
                " two models."
            )
        scale = np.float32(np.exp(self.logit_scale)) if apply_temperature else np.float32(1)
        return texts @ images.T * scale

    def find_best_matches(self, texts: str | Sequence[str], images: Any, top_k: int = 5) -> list[list[int]]:
        """For each text the places of the `top_k` nearest images, the nearest first; all where there are fewer."""
        return _best(self.compute_similarity(self.encode_text(texts), self.encode_image(images), False), top_k)

    def find_best_text_matches(self, images: Any, texts: str | Sequence[str], top_k: int = 5) -> list[list[int]]:
        """For each image the places of the `top_k` nearest texts, the nearest first; all where there are fewer."""
        return _best(self.compute_similarity(self.encode_text(texts), self.encode_image(images), False).T, top_k)

    def zero_shot_classification(
        self, images: Any, class_texts: Sequence[str], return_probabilities: bool = True
    ) -> tuple[NDArray[np.int64], Embeddings] | NDArray[np.int64]:
        """The class of each image: (N,) places in `class_texts`, and with `return_probabilities` the softmax of the
        similarities, (N, classes)."""
        similarity = self.compute_similarity(self.encode_text(class_texts), self.encode_image(images)).T
        predictions = similarity.argmax(1)
        if not return_probabilities:
            return predictions
        return predictions, F.softmax(torch.from_numpy(similarity), dim=1).numpy()


def _unit_rows(name: str, embeddings: Any) -> Embeddings:
    rows = np.atleast_2d(np.asarray(embeddings, dtype=np.float32))
    problems = Problems(name)
    if problems.check(rows.ndim == 2 and rows.size > 0, f"shape {rows.shape}; it must be (items, dimensions)."):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        sound = np.isfinite(lengths).all() and (lengths > 0).all()
        problems.check(sound, "a row is zero or not finite: it points nowhere.")
    problems.done()
    return rows / lengths


def _best(similarity: Embeddings, top_k: int) -> list[list[int]]:
    """The places of the largest values of each row, of equal ones the first."""
    problems = Problems()
    problems.whole("top_k", top_k, 1)
    problems.done()
    found: list[list[int]] = np.argsort(-similarity, axis=1, kind="stable")[:, :top_k].tolist()
    return found
