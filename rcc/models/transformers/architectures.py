"""Map the architectures of transformers to the adapters that load them."""

from __future__ import annotations

ARCHITECTURES = {
    "BlipForConditionalGeneration": "blip",
    "BlipForImageTextRetrieval": "blip_retrieval",
    "CLIPModel": "clip",
    "CLIPVisionModelWithProjection": "clip_vision",
    "SiglipModel": "siglip",
    "ViTForImageClassification": "vit",
    "WhisperEncoder": "whisper",
    "WhisperForConditionalGeneration": "whisper",
    "WhisperModel": "whisper",
}
"""The model= that loads a checkpoint, by the `architectures` of its config.json."""
GENERAL = "transformers"
"""The model= that loads every other architecture of the library."""
TEXT_ENCODER = "text_encoder"
"""The model= of those among them whose states are pooled to one embedding a text."""
MODEL_TYPES = {
    "blip": ("blip", "blip_retrieval"),
    "clip": ("clip",),
    "clip_vision_model": ("clip_vision",),
    "siglip": ("siglip",),
    "vit": ("vit",),
    "whisper": ("whisper",),
}
"""The models of a `model_type`, the likeliest first, where a config.json has no architectures."""
