"""Measures peak memory and time of a gradient pass with and without `gradient_checkpointing` on ViT-B/32 shapes.

    OMP_NUM_THREADS=1 python benchmarks/activation_checkpointing.py
    OMP_NUM_THREADS=1 python benchmarks/activation_checkpointing.py --images 32

The pass is that of `alpha`'s importance by gradients: one batch forward and backward through the vision tower, in
evaluation mode, the gradients of every linear layer reduced as they come. Each way runs in a fresh process; memory is
the kernel's mark of the peak, above what the process held before the pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from rcc.calibration.gradients import channel_gradients
from rcc.layers.units import find_units
from rcc.memory import Meter, resident_bytes
from rcc.models.block_marks import mark_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="in the batch, 50 tokens each")
    parser.add_argument("--layers", type=int, default=12, help="of the tower")
    parser.add_argument("--child", choices=("kept", "recomputed"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child == "recomputed", options.layers, options.images)))
        return
    print(
        f"ViT-B/32 shapes, {options.layers} layers, {options.images} images, torch {torch.__version__},"
        f" {torch.get_num_threads()} thread(s)\n\n"
        "| activations | peak above the weights, MB | processor seconds | norm of all gradients |\n"
        "| :-- | --: | --: | --: |"
    )
    for way in ("kept", "recomputed"):
        command = [sys.executable, __file__, *sys.argv[1:], "--child", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peak, seconds, norm = json.loads(done.stdout.splitlines()[-1])
        print(f"| {way} | {peak / 1e6:.0f} | {seconds:.2f} | {norm:.6e} |", flush=True)


def measured(recomputed: bool, layers: int, images: int) -> tuple[float, float, float]:
    """Peak bytes above those of the model, processor seconds, and the norm of the gradients' norms."""
    torch.manual_seed(0)
    tower = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=layers, image_size=224, patch_size=32)).eval()
    if recomputed:
        mark_blocks(tower, "the tower")
    units = [unit for unit in find_units(tower) if unit.kind == "linear"]
    pixels = torch.randn(images, 3, 224, 224)

    def loss(batch: Tensor) -> Tensor:
        value: Tensor = tower(pixel_values=batch).pooler_output.square().mean()
        return value

    held, start = resident_bytes(), time.process_time()
    with Meter() as meter:
        found = channel_gradients(tower, units, [pixels], loss)
    norm = torch.cat([one.norm for one in found.values()]).norm()
    return meter.peak_bytes - held, time.process_time() - start, float(norm)


if __name__ == "__main__":
    main()
