"""Adapt a vision transformer that classifies: transformers' ViTForImageClassification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import ViTForImageClassification, ViTImageProcessorPil

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.transformers.classifying import classification_loss
from rcc.models.transformers.pretrained import PretrainedAdapter


class ViTWrapper(PretrainedAdapter):
    """Roles attention, mlp, classifier, embedding and norm; one tower, vision."""

    name: ClassVar[str] = "vit"
    default_roles: ClassVar[Sequence[str]] = ("attention", "mlp", "classifier")
    published: ClassVar[str] = "google/vit-base-patch16-224"
    model_class = ViTForImageClassification
    image_processor_class = ViTImageProcessorPil
    module: ViTForImageClassification

    @staticmethod
    def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
        if kind in ("norm", "embedding"):
            return kind, "vision"
        if kind == "conv":
            return "embedding", "vision"
        if name == "classifier":
            return "classifier", "vision"
        return ("attention" if ".attention." in name else "mlp"), "vision"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the config, in the order of the logits; () where it has none but LABEL_0, LABEL_1, …"""
        names: dict[Any, str] = dict(self.module.config.id2label or {})
        found = tuple(str(names[index]) for index in sorted(names))
        return () if all(name == f"LABEL_{index}" for index, name in enumerate(found)) else found

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (B, classes)."""
        if "pixel_values" not in batch:
            raise UserError(f"a batch of '{self.name}' needs pixel_values; this one has {sorted(batch)}.")
        return {"logits": self.module(pixel_values=batch["pixel_values"]).logits}

    def loss(self, batch: Batch) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(self, batch)
