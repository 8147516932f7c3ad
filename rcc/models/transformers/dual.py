"""Two towers and one space: what CLIP and SigLIP share. Images and texts are embedded apart and compared by cosine.

Shapes: B images or texts, L tokens, D projected dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.errors import UserError
from rcc.layers.gather import gathered
from rcc.layers.model import Batch
from rcc.models.transformers.pretrained import PretrainedAdapter


class DualEncoder(PretrainedAdapter):
    """Embeddings are projected to the shared D and normalised."""

    default_roles: ClassVar[Sequence[str]] = ("attention", "mlp", "projection")

    @abstractmethod
    def _pair_loss(self, similarity: Tensor, groups: Tensor | None = None) -> Tensor:
        """The loss of the similarities (B, B) of paired images and texts; pairs of one group (B,) match each other."""

    @property
    def vision_encoder(self) -> torch.nn.Module:
        found: torch.nn.Module = self.module.vision_model
        return found

    @property
    def text_encoder(self) -> torch.nn.Module:
        found: torch.nn.Module = self.module.text_model
        return found

    @property
    def temperature(self) -> float:
        """What similarities are divided by: exp(-logit_scale), learned."""
        return float(torch.exp(-self.module.logit_scale.detach()))

    # Adapter.

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`image_embeds` and `text_embeds` (B, D), projected and normalised, for the inputs that the batch
        has."""
        return {name: F.normalize(features, dim=-1) for name, features in self.projected(batch).items()}

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        features = {}
        if "pixel_values" in batch:
            features["image_embeds"] = self.module.get_image_features(batch["pixel_values"]).pooler_output
        if "input_ids" in batch:
            tokens = {"input_ids": batch["input_ids"], "attention_mask": batch.get("attention_mask")}
            features["text_embeds"] = self.module.get_text_features(**tokens).pooler_output
        if not features:
            raise UserError(f"a batch of '{self.name}' needs pixel_values or input_ids; this one has {sorted(batch)}.")
        return features

    def loss(self, batch: Batch) -> Tensor:
        """The model's loss on a batch of image–text pairs.

        With `labels` (B,) in the batch, pairs of one label are all positives of each other. Without, pair i matches
        itself. In several processes the pairs of all are compared.
        """
        embeddings = {name: gathered(each) for name, each in self.outputs(batch).items()}
        labels = batch.get("labels")
        return self._pair_loss(self._paired(embeddings), None if labels is None else gathered(labels))

    # The specification's interface (§3.1).

    def encode_image(self, images: Any) -> Tensor:
        """Normalised embeddings (B, D) of PIL images, uint8 arrays (H × W × 3) or pixels (B, 3, H, W).

        Gradients flow only while the module is in training mode.
        """
        batch = self._inputs(images)
        with self._learning():
            return self.outputs(batch)["image_embeds"]

    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        """Normalised embeddings (B, D) of a string, several strings, or token ids (B, L).

        Gradients flow only while the module is in training mode.
        """
        batch = self._token_inputs(texts)
        with self._learning():
            return self.outputs(batch)["text_embeds"]

    def forward(self, images: Any = None, texts: Any = None, return_loss: bool = False) -> dict[str, Tensor]:
        """`image_embeds` and `text_embeds` for what is given; with `return_loss` also `logits_per_image`,
        `logits_per_text` and the `loss` of pairs that match themselves.

        Raises:
            UserError: `return_loss` without as many texts as images.
        """
        output: dict[str, Tensor] = {}
        if images is not None:
            output["image_embeds"] = self.encode_image(images)
        if texts is not None:
            output["text_embeds"] = self.encode_text(texts)
        if return_loss:
            output["logits_per_image"] = self._paired(output)
            output["logits_per_text"] = output["logits_per_image"].T
            output["loss"] = self._pair_loss(output["logits_per_image"])
        return output

    def compute_similarity(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """cos · exp(logit_scale), (N, M), for embeddings (N, D) and (M, D), normalised here if need be."""
        cosine = F.normalize(image_embeds, dim=-1) @ F.normalize(text_embeds, dim=-1).T
        similarity: Tensor = cosine * self.module.logit_scale.exp()
        return similarity

    def _paired(self, embeddings: dict[str, Tensor]) -> Tensor:
        found = {name: len(embedding) for name, embedding in embeddings.items()}
        if len(found) < 2 or found["image_embeds"] != found["text_embeds"]:
            raise UserError(f"the contrastive loss needs as many images as texts; got {found or 'neither'}.")
        return self.compute_similarity(embeddings["image_embeds"], embeddings["text_embeds"])
