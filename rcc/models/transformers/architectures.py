"""Map the architectures of transformers to the adapters that load them."""

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
