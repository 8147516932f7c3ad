"""A CLIP in open_clip's own layout, computed as open_clip computes it: by its names, with nn.MultiheadAttention."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

VISION = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8, "mlp_ratio": 2.0}
TEXT = {"context_length": 16, "width": 24, "heads": 3, "layers": 2, "mlp_ratio": 3.0}
PREPARATION = {
    "size": 32, "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic",
    "resize_mode": "shortest",
}  # fmt: skip


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, ratio: float, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, int(width * ratio)))
        self.mlp.add_module("gelu", activation)
        self.mlp.add_module("c_proj", nn.Linear(int(width * ratio), width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, tower: dict[str, Any], heads: int, activation: nn.Module) -> None:
        super().__init__()
        blocks = [Block(tower["width"], heads, tower["mlp_ratio"], activation) for _ in range(tower["layers"])]
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Vision(nn.Module):
    def __init__(self, embed: int, activation: nn.Module) -> None:
        super().__init__()
        width, patch = VISION["width"], VISION["patch_size"]
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((VISION["image_size"] // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Blocks(VISION, width // VISION["head_width"], activation)
        self.proj = nn.Parameter(torch.randn(width, embed) / 6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class OpenCLIP(nn.Module):
    def __init__(self, vocabulary: int, embed: int = 16, quick_gelu: bool = True) -> None:
        super().__init__()
        activation = QuickGELU() if quick_gelu else nn.GELU()
        width = TEXT["width"]
        self.visual = Vision(embed, activation)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(TEXT["context_length"], width))
        self.transformer, self.ln_final = Blocks(TEXT, TEXT["heads"], activation), nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed) / 5)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Of tokens (B, context), padded with 0."""
        mask = torch.full((tokens.shape[1],) * 2, -torch.inf).triu(1)
        x = self.ln_final(self.transformer(self.token_embedding(tokens) + self.positional_embedding, mask))
        return x[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection


def config_of(model: OpenCLIP, quick_gelu: bool | None = True) -> dict[str, Any]:
    """What stands in open_clip_config.json; without `quick_gelu` where it is None."""
    said = {} if quick_gelu is None else {"quick_gelu": quick_gelu}
    text = {**TEXT, "vocab_size": model.token_embedding.num_embeddings}
    settings = {"embed_dim": model.visual.proj.shape[1], **said, "vision_cfg": VISION, "text_cfg": text}
    return {"model_cfg": settings, "preprocess_cfg": PREPARATION}


def random_open_clip(vocabulary: int, quick_gelu: bool = True) -> OpenCLIP:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = OpenCLIP(vocabulary, quick_gelu=quick_gelu).eval()
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def save_open_clip(directory: Path, model: OpenCLIP, config: dict[str, Any], tokenizer: Path) -> Path:
    """The directory of the model, with the tokenizer's files of another."""
    directory.mkdir(parents=True)
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    for path in tokenizer.glob("*"):
        if path.name.startswith(("tokenizer", "vocab", "merges", "special_tokens")):
            shutil.copy(path, directory / path.name)
    return directory
