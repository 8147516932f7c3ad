"""Zero-shot evaluation on ViT-B/32 shapes against the naive loop and the bare model; retrieval of 5k × 25k.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --quick --output build

The naive loop takes one image at a time and encodes the prompts of all classes again for each. The bare model runs on
pixels and tokens that are ready, in batches of the same size. All ways take turns, and what counts are ratios of
medians in one run, by the clock and in processor time: decoding runs in threads beside the model, which the clock may
hide and the processor time never does. The weights are random and the images are JPEG files of 500 × 375 pixels; texts
are tokenised byte by byte, so that prompts are two to three times as long as in a trained CLIP.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inference import RESULTS, machine
from PIL import Image
from torch import Tensor

from rcc.data.files.images import EncodedImages
from rcc.data.loading import prepared
from rcc.data.sets.class_lists import class_names, templates
from rcc.data.splits import Split, Splits
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator, prompts
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.evaluation.embeddings.fingerprint import Fingerprinter
from rcc.evaluation.retrieval.metrics import retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, retrieval_ranks
from rcc.models.transformers.clip import CLIPWrapper

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "build" / "vit_b32"
ASKED = {"float32": 6.0, "bfloat16": 10.0}
MOST_ABOVE_BARE, MOST_BYTES = 1.05, 1_000_000_000
NAIVE = "naive loop, float32"
SIZES = {False: (5_000, 5, 512), True: (50, 5, 16)}  # images, captions of each and dimensions, by --quick
Model = CLIPWrapper


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint directory; built if it is missing")
    parser.add_argument("--threads", type=int, default=1, help="torch's; images are decoded in two more")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument(
        "--naive-images", type=int, default=2, help="of the naive loop, whose cost per image is constant"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few small things: checks the program, not the speed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    parser.add_argument("--retrieval", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.retrieval:
        print(json.dumps(retrieval(*SIZES[options.quick])))
        return
    if not options.model.exists():
        subprocess.run([sys.executable, str(ROOT / "scripts/build_vit_b32.py"), str(options.model)], check=True)
    splits = data(options.images, size=(50, 40) if options.quick else (500, 375))
    command = [sys.executable, __file__, "--retrieval", "--threads", str(options.threads)]
    searched = subprocess.run([*command, *(["--quick"] if options.quick else [])], check=True, stdout=subprocess.PIPE)
    result = {
        "machine": machine(),
        "images": options.images,
        "classes": len(splits.class_names),
        "templates": len(splits.templates),
        "batch": options.batch,
        "repeats": options.repeats,
        **zero_shot(options, splits),
        "retrieval": json.loads(searched.stdout),
    }
    write(result, options.output / "evaluation")


def data(count: int, size: tuple[int, int]) -> Splits:
    """`count` different JPEG files with the classes and templates of CIFAR-10; the other splits have one each."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count + 3):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    names = class_names("cifar10")

    def split(name: str, start: int, stop: int) -> Split:
        images = EncodedImages(
            [f"{index}.jpg" for index in range(len(files))], files.__getitem__, np.arange(start, stop)
        )
        return Split(name, images, labels=np.arange(start, stop) % len(names))

    others = [
        split(role, count + step, count + step + 1) for step, role in enumerate(("train", "calibration", "selection"))
    ]
    return Splits(*others, split("test", 0, count), names, templates("cifar"))


def zero_shot(options: argparse.Namespace, splits: Splits) -> dict[str, Any]:
    """Medians of all ways, the cost of a fingerprint, and for how long the model waits for images."""
    adapter, half = (CLIPWrapper(options.model, "cpu", dtype) for dtype in ("float32", "bfloat16"))
    few = splits.test.take(options.naive_images)
    ready = {model: batches(model, splits, options.batch) for model in (adapter, half)}
    shared = EmbeddingCache(options.batch, megabytes=2_000)
    ZeroShotEvaluator(cache=shared).evaluate(adapter, splits.test, splits)

    def ours(model: Model) -> None:
        ZeroShotEvaluator(batch_size=options.batch).evaluate(model, splits.test, splits)

    count = len(splits.test)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        NAIVE: (len(few), partial(one_by_one, adapter, few, splits, again=True)),
        "one image at a time, prompts once, float32": (count, partial(one_by_one, adapter, splits.test, splits)),
        "bare model, float32": (count, partial(bare, adapter, ready[adapter])),
        "eval=zero_shot, float32": (count, partial(ours, adapter)),
        "bare model, bfloat16": (count, partial(bare, half, ready[half])),
        "eval=zero_shot, bfloat16": (count, partial(ours, half)),
        "a second evaluator of the same run": (count, partial(again, shared, adapter, splits)),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, (_, way) in ways.items():
            taken[name].append(timed(way))
    rows = []
    for name, times in taken.items():
        clock, processor = (statistics.median(column) / ways[name][0] for column in zip(*times, strict=True))
        rows.append({"way": name, "seconds": clock, "processor": processor})
    fingerprint = Fingerprinter()
    prints = statistics.median(timed(lambda: fingerprint(adapter))[1] for _ in range(5))
    idle = {str(model.dtype): waiting(model, splits.test, options.batch) for model in (adapter, half)}
    return {"rows": rows, "fingerprint_processor": prints, "idle_share": idle}


def batches(adapter: Model, splits: Splits, size: int) -> list[dict[str, Tensor]]:
    """Pixels of the test split and tokens of the prompts, ready for the model."""
    texts = prompts(splits.class_names, splits.templates)
    tokens = [adapter.prepare(texts=texts[start : start + size]) for start in range(0, len(texts), size)]
    return [*prepared(adapter, splits.test, size, fields=("images",)), *tokens]


@torch.inference_mode()
def bare(adapter: Model, ready: list[dict[str, Tensor]]) -> None:
    for batch in ready:
        adapter.outputs(batch)


@torch.inference_mode()
def one_by_one(adapter: Model, split: Split, splits: Splits, again: bool = False) -> list[int]:
    """One image after the other, the prompts of every class encoded for the first one alone or for each `again`."""
    found: list[int] = []
    classes = None
    for image in split.images:
        if classes is None or again:
            means = [
                adapter.encode_text([t.format(name) for t in splits.templates]).mean(0) for name in splits.class_names
            ]
            classes = F.normalize(torch.stack(means), dim=-1)
        found.append(int((adapter.encode_image([image]) @ classes.T).argmax()))
    return found


def again(cache: EmbeddingCache, adapter: Model, splits: Splits) -> None:
    ZeroShotEvaluator(cache=cache).evaluate(adapter, splits.test, splits)


@torch.inference_mode()
def waiting(adapter: Model, split: Split, size: int) -> float:
    """Share of the time for which the model waits for images, the first batch included."""
    loader = prepared(adapter, split, size, fields=("images",))
    for batch in loader:
        adapter.outputs(batch)
    return loader.idle_share


def timed(way: Callable[[], object]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - clock, time.process_time() - processor


def retrieval(images: int, captions: int, width: int) -> dict[str, Any]:
    """Time and peak memory, in this process, of retrieval both ways with normal embeddings near their captions'."""
    generator = torch.Generator().manual_seed(0)
    image_embeds = F.normalize(torch.randn(images, width, generator=generator), dim=1)
    noise = torch.randn(images * captions, width, generator=generator) / 4
    text_embeds = F.normalize(image_embeds.repeat_interleave(captions, 0).add_(noise), dim=1)
    del noise
    img2txt = [list(range(image * captions, (image + 1) * captions)) for image in range(images)]
    before = peak()
    clock, processor = time.perf_counter(), time.process_time()
    pairs = Pairs.of(img2txt, [[text // captions] for text in range(images * captions)], images, images * captions)
    metrics = retrieval_metrics(retrieval_ranks(image_embeds, text_embeds, pairs), pairs)
    seconds, used = time.perf_counter() - clock, time.process_time() - processor
    about = {"images": images, "texts": images * captions, "width": width, "r_mean": metrics[0].value}
    return {**about, "seconds": seconds, "processor": used, "peak_before": before, "peak": peak()}


def peak() -> int:
    """Most bytes this process has held in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    about, rows = result["machine"], {row["way"]: row for row in result["rows"]}
    naive = rows[NAIVE]
    lines = [
        f"{about['processors']} processors ({about['cpu']}), {about['threads']} threads of torch, torch"
        f" {about['torch']}; {result['images']} images, {result['classes']} classes × {result['templates']} templates,"
        f" batches of {result['batch']}; medians of {result['repeats']} interleaved repeats, times for one image.",
        "",
        "| way | ms by the clock | ms of the processor | × the naive loop, clock | × processor |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name, row in rows.items():
        times = " | ".join(f"{1e3 * row[kind]:.2f}" for kind in ("seconds", "processor"))
        ratios = " | ".join(f"{naive[kind] / row[kind]:.1f}" for kind in ("seconds", "processor"))
        lines.append(f"| {name} | {times} | {ratios} |")
    found = result["retrieval"]
    one = rows["bare model, float32"]["processor"]
    idle = ", ".join(f"{share:.1%} in {dtype.removeprefix('torch.')}" for dtype, share in result["idle_share"].items())
    lines += [
        "",
        *verdicts(rows),
        f"Of the time, the model waits for images for {idle} (the first batch included).",
        f"A fingerprint of the weights takes {1e3 * result['fingerprint_processor']:.0f} ms of the processor: as much"
        f" as {result['fingerprint_processor'] / one:.1f} images.",
        f"Retrieval of {found['images']:,} images × {found['texts']:,} texts, {found['width']} dimensions, both ways:"
        f" {found['processor']:.1f} s of the processor; the peak of the whole process is {found['peak'] / 1e6:.0f} MB,"
        f" of which {found['peak_before'] / 1e6:.0f} MB were there before (asked: below {MOST_BYTES / 1e9:.0f} GB,"
        f" {'reached' if found['peak'] < MOST_BYTES else 'MISSED'}).",
    ]
    return "\n".join([*lines, ""])


def verdicts(rows: dict[str, dict[str, float]]) -> list[str]:
    """What was asked against what was measured, in processor time and by the clock."""
    said = []
    for dtype, asked in ASKED.items():
        ours, alone = rows[f"eval=zero_shot, {dtype}"], rows[f"bare model, {dtype}"]
        faster, above = (
            [numbers[kind] / others[kind] for kind in ("processor", "seconds")]
            for numbers, others in ((rows[NAIVE], ours), (ours, alone))
        )
        said.append(
            f"{dtype}: {faster[0]:.1f} times the throughput of the naive loop in processor time, {faster[1]:.1f} by"
            f" the clock (asked: {asked:.0f}, {'reached' if min(faster) >= asked else 'MISSED'});"
            f" {above[0] - 1:+.1%} over the bare model in processor time, {above[1] - 1:+.1%} by the clock (asked by"
            f" the clock: {MOST_ABOVE_BARE - 1:.0%}, {'reached' if above[1] <= MOST_ABOVE_BARE else 'MISSED'})."
        )
    return said


def write(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(f"\n{table(result)}\nWritten: {path}.json, {path}.md")


if __name__ == "__main__":
    main()
