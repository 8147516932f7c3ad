"""Measures quality at equal bytes: recipes on the embedded digits CLIP of three training seeds.

    python benchmarks/quality.py
    python benchmarks/quality.py --recipe dare+quant --ratio 30 --seed 0

Every recipe is solved for the same bytes of the whole artifact on disk, by `target_ratio`. What is measured is the
artifact loaded again from its files. The ranking is by the selection split; the test split decides nothing.
Each run is a line of `rows.jsonl` in the cache directory as soon as it is there, and is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import torch
import zstandard
from quality_recipes import RECIPES
from quality_table import table

from rcc.artifact.load import load
from rcc.artifact.size import dense_bytes, directory_bytes
from rcc.artifact.weights import write_checkpoint
from rcc.composing.composition import composer, own
from rcc.data.splits import Split, Splits
from rcc.errors import RccError
from rcc.evaluation.registry import load_evaluator
from rcc.models.adapter import Adapter
from rcc.models.registry import load_model
from rcc.run import read

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "quality"
RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
QUICK = ("data.calibration=32", "data.selection=40", "data.test=40")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="trained seeds, and the runs that are done")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    parser.add_argument("--recipe", action="append", help="this recipe alone, by its name; repeatable")
    parser.add_argument("--ratio", type=float, action="append", help="this ratio alone; repeatable")
    parser.add_argument("--seed", type=int, action="append", help="this training seed alone; repeatable")
    parser.add_argument("--quick", action="store_true", help="few images: that it runs, no more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    done = {key_of(row): row for row in rows(options.cache)}
    asked = [
        (seed, recipe, ratio)
        for ratio in options.ratio or sorted({ratio for recipe in RECIPES for ratio in recipe.ratios})
        for recipe in RECIPES
        if ratio in recipe.ratios and recipe.name in (options.recipe or [recipe.name])
        for seed in options.seed or SEEDS
    ]
    measured = []
    for seed, recipe, ratio in asked:
        overrides = [*model_of(seed, options.cache), *recipe.at(ratio), *(QUICK if options.quick else ())]
        row: dict[str, Any] = {"recipe": recipe.name, "seed": seed, "ratio": ratio, "overrides": overrides}
        if key_of(row) not in done:
            row |= {"commit": commit(), **run(overrides, seed, options.cache)}
            with (options.cache / "rows.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            done[key_of(row)] = row
        measured.append(done[key_of(row)])
        print(f"{ratio:g} × {recipe.name}, seed {seed}: {told(measured[-1])}", flush=True)
    write(measured, options)


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What makes two runs the same: all overrides but the path of the model, and the training seed."""
    return (f"{row['seed']}", *(text for text in row["overrides"] if not text.startswith("model")))


def rows(directory: Path) -> list[dict[str, Any]]:
    path = directory / "rows.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def told(row: dict[str, Any]) -> str:
    if row["problem"]:
        return str(row["problem"])
    return f"{row['reached']:.2f}×, selection {row['selection']:.4f}, 1 - cosine {row['distance']:.5f}"


def model_of(seed: int, directory: Path) -> list[str]:
    """The overrides that name the digits CLIP of a training seed, which is trained if it is not there."""
    if seed == 0:
        return ["model=clip_tiny"]
    place = directory / f"{seed}"
    if not (place / "checkpoint").exists():
        arguments = ["job=train", f"seed={seed}", "threads=1", f"hydra.run.dir={place}"]
        subprocess.run([sys.executable, "-m", "rcc.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    return ["model=clip", f"model.path={place / 'checkpoint'}"]


def run(overrides: Sequence[str], seed: int, cache_directory: Path) -> dict[str, Any]:
    """One run of `job=compress`, and what its artifact is worth; the problem where there is none."""
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=cache_directory))
    started, processor = time.perf_counter(), time.process_time()
    try:
        with composer() as configs, (directory / "output").open("w") as output, redirect_stdout(output):
            cfg = configs.compose(overrides)
            job = read(own(cfg), cfg.hydra.runtime.choices, directory / "run", list(overrides))
            job.run()
        seconds = {"seconds": time.perf_counter() - started, "processor": time.process_time() - processor}
        return {"problem": "", **seconds, **worth(load(directory / "run" / "artifact"), job.data(), directory)}
    except RccError as error:
        return {"problem": str(error)}
    finally:
        shutil.rmtree(directory)


def worth(model: Adapter, splits: Splits, directory: Path) -> dict[str, Any]:
    """Bytes, accuracies and distances of a loaded artifact beside the dense model of the same run."""
    settings = json.loads((directory / "run" / "artifact" / "manifest.json").read_text(encoding="utf-8"))["config"]
    name, path = settings["model"]["name"], settings["model"].get("path")
    dense = dense_model(name, path)
    evaluator = load_evaluator("zero_shot")
    nbytes = directory_bytes(directory / "run" / "artifact")
    measured = {
        what: evaluator.evaluate(model, split, splits).main.value
        for what, split in (("selection", splits.selection), ("test", splits.test))
    }
    reference = {
        f"dense_{what}": evaluator.evaluate(dense, split, splits).main.value
        for what, split in (("selection", splits.selection), ("test", splits.test))
    }
    images, texts = distances(model, dense, splits.selection)
    whole = dense_bytes(dense, "float32", directory)
    sizes = {"bytes": nbytes, "dense_bytes": whole, "reached": whole / nbytes}
    counts = {"selection_images": len(splits.selection), "test_images": len(splits.test)}
    parts = {"image_distance": images, "text_distance": texts, "distance": (images + texts) / 2}
    return {**sizes, **measured, **reference, **counts, **parts}


@cache
def dense_model(name: str, path: str | None) -> Adapter:
    return load_model(name, device="cpu") if path is None else load_model(name, path=path, device="cpu")


@torch.inference_mode()
def distances(model: Adapter, dense: Adapter, split: Split) -> tuple[float, float]:
    """Mean of 1 - cosine of the embeddings of all images, and of all captions, to those of the dense model."""
    batch = dense.prepare(images=list(split.images), texts=split.texts)
    ours, theirs = model.outputs(batch), dense.outputs(batch)
    image, text = (
        float((1 - torch.cosine_similarity(ours[name].double(), theirs[name].double(), dim=-1)).mean())
        for name in ("image_embeds", "text_embeds")
    )
    return image, text


def control(directory: Path, seeds: Sequence[int]) -> Iterator[float]:
    """How many times smaller the dense directory is with its weights in float16 and coded by zstd, level 19."""
    for seed in seeds:
        path = None if seed == 0 else str(directory / f"{seed}" / "checkpoint")
        model = dense_model("clip_tiny" if seed == 0 else "clip", path)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            weights = Path(scratch) / "model.safetensors"
            write_checkpoint(weights, dict(model.module.state_dict()), torch.float16)
            coded = len(zstandard.ZstdCompressor(level=19).compress(weights.read_bytes()))
            others = dense_bytes(model, "float16", scratch) - weights.stat().st_size
            yield dense_bytes(model, "float32", scratch) / (others + coded)


def write(measured: list[dict[str, Any]], options: argparse.Namespace) -> None:
    seeds = sorted({row["seed"] for row in measured})
    result = {
        "machine": {"platform": platform.platform(), "threads": 1, "torch": torch.__version__},
        "control": list(control(options.cache, seeds)),
        "rows": [
            {name: value for name, value in row.items() if name != "overrides"}
            | {"overrides": [text for text in row["overrides"] if not text.startswith("model.path")]}
            for row in measured
        ],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = table(result)
    (options.output / "quality.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.output / "quality.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nWritten: {options.output}/quality.json, {options.output}/quality.md")


@cache
def commit() -> str:
    """The commit of the program's repository; a plus where files were changed."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
