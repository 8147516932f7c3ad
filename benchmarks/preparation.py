"""Measures the preparation of images: the model's own processor beside the table that gives the same bits.

    OMP_NUM_THREADS=1 python benchmarks/preparation.py

Random images of three sizes, CLIP's processor of 224 pixels; processor time an image, medians of the rounds, in turns.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import process_time

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from rcc.models.transformers.pixels import prepared

SIZES = ((640, 480), (320, 240), (128, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    processor, draw = CLIPImageProcessorPil(), np.random.default_rng(0)
    print("| pixels | processor, ms | table, ms | × | same bits |\n| :-- | --: | --: | --: | :-- |")
    for width, height in SIZES:
        images = [
            Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(options.images)
        ]
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.rounds + 1):
            begin = process_time()
            theirs = processor(images=images, return_tensors="pt")["pixel_values"]
            taken[0].append(process_time() - begin)
            begin = process_time()
            ours = prepared(processor, images)
            taken[1].append(process_time() - begin)
        first, other = (1e3 * median(each[1:]) / options.images for each in taken)
        same = "yes" if torch.equal(ours, theirs) else "NO"
        print(f"| {width} × {height} | {first:.2f} | {other:.2f} | {first / other:.2f} | {same} |")


if __name__ == "__main__":
    main()
