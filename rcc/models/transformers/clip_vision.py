"""CLIP's vision tower with its projection, alone: transformers' CLIPVisionModelWithProjection behind the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.pretrained import PretrainedAdapter


class CLIPVisionWrapper(PretrainedAdapter):
    """Roles as those of CLIP; one tower, vision. Embeddings are projected to D and normalised."""

    name: ClassVar[str] = "clip_vision"
    default_roles: ClassVar[Sequence[str]] = CLIPWrapper.default_roles
    model_class = CLIPVisionModelWithProjection
    image_processor_class = CLIPImageProcessorPil
    module: CLIPVisionModelWithProjection

    _role_and_tower = staticmethod(CLIPWrapper._role_and_tower)

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`image_embeds` (B, D), projected and normalised."""
        return {name: F.normalize(features, dim=-1) for name, features in self.projected(batch).items()}

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        if "pixel_values" not in batch:
            raise UserError(f"a batch of '{self.name}' needs pixel_values; this one has {sorted(batch)}.")
        return {"image_embeds": self.module(pixel_values=batch["pixel_values"]).image_embeds}

    def loss(self, batch: Batch) -> Tensor:
        """None of its own.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"the model '{self.name}' has no loss of its own, because it reads no texts: use what compares outputs with"
            " the dense model's, as stage.alpha.loss=outputs, or the whole CLIP with model=clip."
        )

    def encode_image(self, images: Any) -> Tensor:
        """Normalised embeddings (B, D) of PIL images, uint8 arrays (H × W × 3) or pixels (B, 3, H, W).

        Gradients flow only while the module is in training mode.
        """
        batch = self._inputs(images)
        with self._learning():
            return self.outputs(batch)["image_embeds"]
