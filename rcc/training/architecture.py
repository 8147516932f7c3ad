"""Build the architecture of a small CLIP from a few sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from rcc.errors import Problems
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.tokenizer import END, START, word_tokenizer


@dataclass(frozen=True)
class Architecture:
    """Sizes of both towers. Lengths in pixels and tokens; the defaults make 1.3 million parameters."""

    hidden: int = 128
    mlp: int = 512
    heads: int = 4
    vision_layers: int = 4
    text_layers: int = 2
    projection: int = 128
    image: int = 32
    patch: int = 8
    context: int = 16

    def __post_init__(self) -> None:
        problems = Problems("architecture")
        for name, value in vars(self).items():
            problems.whole(name, value, 1)
        problems.done()
        problems.check(self.hidden % self.heads == 0, f"hidden {self.hidden} is not a multiple of heads {self.heads}.")
        problems.check(self.image % self.patch == 0, f"image {self.image} is not a multiple of patch {self.patch}.")
        problems.done()


def new_clip(architecture: Architecture, words: Iterable[str], seed: int) -> CLIPWrapper:
    """An untrained CLIP with transformers' own initialisation, and a tokenizer in which each of `words` is
    one token."""
    return clip_for(architecture, word_tokenizer(words, architecture.context), seed)


def clip_for(architecture: Architecture, tokenizer: CLIPTokenizer, seed: int) -> CLIPWrapper:
    """An untrained CLIP with transformers' own initialisation that reads what `tokenizer` makes."""
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in (START, END))
    tower = {
        "hidden_size": architecture.hidden,
        "intermediate_size": architecture.mlp,
        "num_attention_heads": architecture.heads,
        "projection_dim": architecture.projection,
    }
    text = {
        "num_hidden_layers": architecture.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": architecture.context,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {
        "num_hidden_layers": architecture.vision_layers,
        "image_size": architecture.image,
        "patch_size": architecture.patch,
    }
    config = CLIPConfig(text_config=tower | text, vision_config=tower | vision, projection_dim=architecture.projection)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = CLIPModel(config)
    side = {"height": architecture.image, "width": architecture.image}
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": architecture.image}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return CLIPWrapper.of(module.eval(), image_processor, tokenizer)
