"""Measures the log-mel front end of speech beside transformers' extractor, whose bits it gives.

    OMP_NUM_THREADS=1 python benchmarks/log_mel.py

Noise of several lengths at 16 kHz, one clip at a time. Processor milliseconds, medians of the rounds, both ways in
turns; each ratio is the median of the ratios of neighbouring calls. That both give the same bits is checked before
anything is timed.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from rcc.models.audio.mel import LogMel

ROUNDS, SECONDS = 41, (1, 3, 11, 30)
ASKED = {3: 6.0, 11: 3.0}
RATE = 16_000


def main() -> None:
    torch.set_num_threads(1)
    extractor, mel = WhisperFeatureExtractor(), LogMel()
    print("| seconds | transformers, ms | rcc, ms | × | asked |\n| --: | --: | --: | --: | --: |")
    for seconds in SECONDS:
        wave = (np.random.default_rng(seconds).standard_normal(seconds * RATE) * 0.1).astype(np.float32)
        ways = {
            "transformers": lambda wave=wave: extractor(wave, sampling_rate=RATE, return_tensors="pt").input_features,
            "rcc": lambda wave=wave: mel([wave]),
        }
        assert torch.equal(*(way() for way in ways.values()))
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS + 1):
            for name, way in ways.items():
                started = time.process_time()
                way()
                took[name].append(1e3 * (time.process_time() - started))
        ratio = statistics.median(one / two for one, two in zip(*(each[1:] for each in took.values()), strict=True))
        theirs, ours = (statistics.median(each[1:]) for each in took.values())
        asked = f"≥ {ASKED[seconds]:g}" if seconds in ASKED else ""
        print(f"| {seconds} | {theirs:.2f} | {ours:.2f} | {ratio:.2f} | {asked} |")


if __name__ == "__main__":
    main()
