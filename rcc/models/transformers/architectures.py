"""Which adapter loads which of transformers' architectures."""

from __future__ import annotations

ARCHITECTURES = {
    "BlipForConditionalGeneration": "blip",
    "BlipForImageTextRetrieval": "blip_retrieval",
    "CLIPModel": "clip",
    "CLIPVisionModelWithProjection": "clip_vision",
    "SiglipModel": "siglip",
    "ViTForImageClassification": "vit",
}
"""The model= that loads a checkpoint, by the `architectures` of its config.json."""
