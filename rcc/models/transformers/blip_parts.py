"""Share what BLIP's models have in common: a vision encoder, and a BERT that may look at its patches.

Source: Li et al., "BLIP: Bootstrapping Language-Image Pre-training" (2022), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import BertTokenizer, BlipImageProcessorPil, BlipProcessor

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.transformers.pretrained import PretrainedAdapter
from rcc.models.transformers.processor_files import check_end

HEADS = ("vision_proj", "text_proj", "itm_head", "text_decoder.cls.predictions.transform.dense")


class BlipAdapter(PretrainedAdapter):
    """Roles attention, cross_attention, mlp, projection, embedding and norm; towers vision and text."""

    default_roles: ClassVar[Sequence[str]] = ("attention", "cross_attention", "mlp", "projection")
    image_processor_class = BlipImageProcessorPil
    tokenizer_class = BertTokenizer

    @classmethod
    def _processors(cls, where: str, config: Any, local: bool) -> tuple[Any, Any]:
        image_processor, tokenizer = super()._processors(where, config, local)
        check_end(where, tokenizer.sep_token_id, config.text_config.sep_token_id)
        return image_processor, tokenizer

    @staticmethod
    def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
        tower = "vision" if name.startswith(("vision_model.", "vision_proj")) else "text"
        if kind in ("norm", "embedding"):
            return kind, tower
        if kind == "conv":
            return "embedding", tower
        if name in HEADS:
            return "projection", tower
        if ".crossattention." in name:
            return "cross_attention", tower
        return ("attention" if ".attention." in name or ".self_attn." in name else "mlp"), tower

    def _patches(self, batch: Batch) -> Tensor:
        """The vision encoder's last states (B, P, hidden), the class token's first."""
        if "pixel_values" not in batch:
            raise UserError(f"a batch of '{self.name}' needs pixel_values here; this one has {sorted(batch)}.")
        states: Tensor = self.module.vision_model(batch["pixel_values"]).last_hidden_state
        return states

    @property
    def vision_encoder(self) -> torch.nn.Module:
        found: torch.nn.Module = self.module.vision_model
        return found

    @property
    def processor(self) -> BlipProcessor:
        return BlipProcessor(image_processor=self.image_processor, tokenizer=self.tokenizer)
