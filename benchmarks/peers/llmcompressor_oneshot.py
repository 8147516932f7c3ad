"""Prunes the vision tower by llmcompressor, in an environment of its own; `against_llmcompressor.py` runs it.

python benchmarks/peers/llmcompressor_oneshot.py wanda MODEL_DIRECTORY 32 RESULT.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from pruned_tower import blocks, load, measured
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPImageProcessorPil

MODIFIERS = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}


def main() -> None:
    method, directory, batch, out = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    model = load(directory)

    def prune(batches: list[dict[str, Tensor]]):
        recipe = MODIFIERS[method](sparsity=0.5, targets=["CLIPEncoderLayer"])
        oneshot(
            model=model,
            dataset=DataLoader(batches, batch_size=None),
            processor=CLIPImageProcessorPil(),  # asked for, and not used
            recipe=recipe,
            pipeline="sequential",
            sequential_targets=["CLIPEncoderLayer"],
        )
        return lambda: {name: layer.weight.detach() for name, layer in blocks(model).items()}

    measured(model, batch, prune, out)


if __name__ == "__main__":
    main()
