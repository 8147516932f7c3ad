"""CLIP: transformers' CLIPModel behind the adapter, with the specification's `CLIPWrapper` interface."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from rcc.models.transformers.contrastive import contrastive_loss
from rcc.models.transformers.dual import DualEncoder
from rcc.models.transformers.processor_files import check_end, check_end_is_highest

LEGACY_END = 2  # in configs from before 2023; such a model looks for the highest token id instead


class CLIPWrapper(DualEncoder):
    """A CLIP of any size with its image processor and tokenizer.

    The loss is contrastive over both directions. Without labels pair i matches itself; a caption that repeats counts
    for all its images even so, because its logits are equal.
    """

    name: ClassVar[str] = "clip"
    published: ClassVar[str] = "openai/clip-vit-base-patch32"
    model_class = CLIPModel
    image_processor_class = CLIPImageProcessorPil
    tokenizer_class = CLIPTokenizer
    module: CLIPModel

    @classmethod
    def _processors(cls, where: str, config: Any, local: bool) -> tuple[Any, Any]:
        image_processor, tokenizer = super()._processors(where, config, local)
        if config.text_config.eos_token_id == LEGACY_END:
            check_end_is_highest(where, tokenizer)
        else:
            check_end(where, tokenizer.eos_token_id, config.text_config.eos_token_id)
        return image_processor, tokenizer

    @staticmethod
    def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
        """Roles attention, mlp, projection, embedding and norm; towers vision and text."""
        tower = "text" if name.startswith(("text_model.", "text_projection")) else "vision"
        if kind in ("norm", "embedding"):
            return kind, tower
        if kind == "conv":
            return "embedding", tower
        if name in ("visual_projection", "text_projection"):
            return "projection", tower
        return ("attention" if ".self_attn." in name else "mlp"), tower

    def _pair_loss(self, similarity: Tensor, groups: Tensor | None = None) -> Tensor:
        return contrastive_loss(similarity, groups)

    # What the specification calls the parts (§3.1).

    @property
    def clip_model(self) -> CLIPModel:
        return self.module

    @property
    def processor(self) -> CLIPProcessor:
        return CLIPProcessor(image_processor=self.image_processor, tokenizer=self.tokenizer)
