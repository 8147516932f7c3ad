"""The model, the images and the measuring that both sides of benchmark (c) share; needs torch and transformers alone.

The vision tower of openai/clip-vit-base-patch32 with random weights: the singular values of every linear layer fall
like i^-½. Inputs are images of independent Gaussian pixels.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

IMAGES, HELD_OUT = 128, 32


def build(directory: Path) -> None:
    """Write the checkpoint directory."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        projection_dim=512,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=32,
    )
    model = CLIPVisionModel(config)
    for layer in blocks(model).values():
        left, right = (torch.linalg.qr(torch.randn(size, min(layer.weight.shape)))[0] for size in layer.weight.shape)
        values = torch.arange(1, left.shape[1] + 1).rsqrt()
        values *= layer.weight.norm() / values.norm()
        layer.weight.data = (left * values) @ right.T
    model.save_pretrained(directory)


def load(directory: Path) -> CLIPVisionModel:
    return CLIPVisionModel.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()


def blocks(model: nn.Module) -> dict[str, nn.Linear]:
    """The 72 linear layers of the 12 blocks."""
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def measured(
    model: nn.Module, batch: int, prune: Callable[[list[dict[str, Tensor]]], Callable[[], dict[str, Tensor]]], out: Path
) -> None:
    """Prune `model` by `prune` on batches of the calibration images; write what it cost and what came of it.

    `prune` gets the batches, and gives a function that reads the pruned weights. Its processor time counts, of all
    threads, loading and reading do not.
    """
    batches = [{"pixel_values": part} for part in images(IMAGES, 1).split(batch)]
    clock, processor = time.perf_counter(), time.process_time()
    read = prune(batches)
    facts: dict[str, Any] = {
        "processor": time.process_time() - processor,
        "seconds": time.perf_counter() - clock,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    weights = read()
    facts["layers"] = len(weights)
    facts["values"] = sum(weight.numel() for weight in weights.values())
    facts["zeros"] = sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights.values())
    with torch.no_grad():
        seen, unseen = (model(images(count, seed)).pooler_output for count, seed in ((IMAGES, 1), (HELD_OUT, 2)))
    save_file({"seen": seen.contiguous(), "held_out": unseen.contiguous()}, out.with_suffix(".safetensors"))
    out.write_text(json.dumps(facts), encoding="utf-8")
