"""BLIP that retrieves: transformers' BlipForImageTextRetrieval behind the adapter.

It embeds images and texts apart, for a first search, and looks at a pair together, for the last word.

Shapes: B images or texts, D projected dimensions.
Source: Li et al., "BLIP: Bootstrapping Language-Image Pre-training" (2022), sections 3.2 (ITC, ITM) and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BlipForImageTextRetrieval

from rcc.errors import UserError
from rcc.layers.gather import several
from rcc.layers.model import Batch
from rcc.models.transformers.blip_parts import BlipAdapter
from rcc.models.transformers.contrastive import contrastive_loss

TEMPERATURE = 0.07
"""Of the contrastive loss where BLIP's training starts; the learned one is not in the checkpoints."""


class BLIPRetrievalWrapper(BlipAdapter):
    """A vision encoder, and a text encoder that runs alone or with cross-attention to the image's patches."""

    name: ClassVar[str] = "blip_retrieval"
    published: ClassVar[str] = "Salesforce/blip-itm-base-coco"
    model_class = BlipForImageTextRetrieval
    module: BlipForImageTextRetrieval

    # Adapter.

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`image_embeds` and `text_embeds` (B, D), projected and normalised, for the inputs that the batch has; with
        both, one text an image, also `match_logits` (B, 2): does not match, matches."""
        patches = self._patches(batch) if "pixel_values" in batch else None
        outputs = {name: F.normalize(each, dim=-1) for name, each in self._projected(batch, patches).items()}
        if patches is not None and "input_ids" in batch and len(batch["input_ids"]) == len(patches):
            outputs["match_logits"] = self._match_logits(patches, batch)
        return outputs

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        return self._projected(batch, self._patches(batch) if "pixel_values" in batch else None)

    def _projected(self, batch: Batch, patches: Tensor | None) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        if patches is not None:
            features["image_embeds"] = self.module.vision_proj(patches[:, 0])
        if "input_ids" in batch:
            features["text_embeds"] = self.module.text_proj(self._encoded(batch)[:, 0])
        if not features:
            raise UserError(f"a batch of '{self.name}' needs pixel_values or input_ids; this one has {sorted(batch)}.")
        return features

    def loss(self, batch: Batch) -> Tensor:
        """The contrastive loss plus the matching loss of a batch of image–text pairs.

        Matching is the cross-entropy over each image with its own text, and with the text most like it of those that
        do not match. Pairs match that share a label, if the batch has `labels` (B,), or else whose texts are the same.

        Raises:
            UserError: the batch has not one text for each image.
        """
        if not {"pixel_values", "input_ids"} <= batch.keys() or len(batch["pixel_values"]) != len(batch["input_ids"]):
            raise UserError(f"the loss needs as many texts as images; the batch has {sorted(batch)}.")
        if several():
            raise UserError(
                f"the loss of '{self.name}' takes the hardest text of its own batch: train it in one process."
            )
        patches = self._patches(batch)
        image_embeds = F.normalize(self.module.vision_proj(patches[:, 0]), dim=-1)
        text_embeds = F.normalize(self.module.text_proj(self._encoded(batch)[:, 0]), dim=-1)
        similarity = image_embeds @ text_embeds.T / TEMPERATURE
        groups = batch["labels"] if "labels" in batch else batch["input_ids"].unique(dim=0, return_inverse=True)[1]
        logits, matches = [self._match_logits(patches, batch)], [torch.ones(len(patches))]
        others = similarity.detach().masked_fill(groups[:, None] == groups[None, :], -torch.inf)
        has_other = others.isfinite().any(1)
        if bool(has_other.any()):
            hardest = others.argmax(1)[has_other]
            tokens = {key: batch[key][hardest] for key in ("input_ids", "attention_mask")}
            logits.append(self._match_logits(patches[has_other], tokens))
            matches.append(torch.zeros(len(hardest)))
        targets = torch.cat(matches).long().to(similarity.device)
        return contrastive_loss(similarity, groups) + F.cross_entropy(torch.cat(logits), targets)

    def _encoded(self, batch: Batch, patches: Tensor | None = None) -> Tensor:
        """The text encoder's last states (B, L, hidden), with cross-attention where there are patches."""
        seen = {}
        if patches is not None:
            whole = torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device)
            seen = {"encoder_hidden_states": patches, "encoder_attention_mask": whole}
        states: Tensor = self.module.text_encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **seen
        ).last_hidden_state
        return states

    def _match_logits(self, patches: Tensor, batch: Batch) -> Tensor:
        logits: Tensor = self.module.itm_head(self._encoded(batch, patches)[:, 0])
        return logits

    # Matcher, and the names that CLIPWrapper has.

    def match(self, images: Any, texts: str | Sequence[str]) -> Tensor:
        """(B,) probabilities of the matching head that text i describes image i; an image that stands in a list several
        times goes through the vision encoder once.

        Raises:
            UserError: there are not as many texts as images.
        """
        places: list[int] | None = None
        if isinstance(images, list | tuple):
            distinct = {id(image): image for image in images}
            order = {identity: place for place, identity in enumerate(distinct)}
            places, images = [order[id(image)] for image in images], list(distinct.values())
        batch = self._inputs(images) | self.prepare(texts=texts)
        pictures = len(batch["pixel_values"] if places is None else places)
        if pictures != len(batch["input_ids"]):
            raise UserError(f"matching needs as many texts as images; got {len(batch['input_ids'])} and {pictures}.")
        with self._learning():
            patches = self._patches(batch)
            return self._match_logits(patches if places is None else patches[places], batch).softmax(-1)[:, 1]

    def encode_image(self, images: Any) -> Tensor:
        """Normalised embeddings (B, D) of PIL images, uint8 arrays (H × W × 3) or pixels (B, 3, H, W)."""
        batch = self._inputs(images)
        with self._learning():
            return self.outputs(batch)["image_embeds"]

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Normalised embeddings (B, D) of a string or several."""
        batch = self.prepare(texts=texts)
        with self._learning():
            return self.outputs(batch)["text_embeds"]
