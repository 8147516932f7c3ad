"""Measures search in a store: exact and by codes, one query at a time and many, beside one product in NumPy.

    OMP_NUM_THREADS=1 python benchmarks/store.py
    OMP_NUM_THREADS=1 python benchmarks/store.py --rows 100000 --dimensions 512
    OMP_NUM_THREADS=1 python benchmarks/store.py --rows 1000000 --lists --rounds 3      # needs faiss

Vectors are the embeddings of the digits by the embedded CLIP, each moved at random to make as many as are asked for, in
its own 128 dimensions; or with --dimensions clusters about random centres. Processor seconds, medians of the rounds,
all ways in turns. Recall is the share of the 10 nearest of the exact search that codes find, with so many candidates.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import rcc
from rcc.engine.encoding import encoded_images

ROUNDS, QUERIES, BATCH, TOP = 7, 20, 100, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, help="of clusters; by default real embeddings are moved")
    parser.add_argument("--lists", action="store_true", help="sort the rows into lists, from a million on")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    vectors = clusters(options.rows, options.dimensions) if options.dimensions else moved(options.rows)
    queries = vectors[np.random.default_rng(1).choice(len(vectors), BATCH, replace=False)]
    with tempfile.TemporaryDirectory() as folder:
        store = rcc.EmbeddingStore(folder)
        names = [str(place) for place in range(len(vectors))]
        started = time.process_time()
        store.add(names, vectors)
        print(f"{len(vectors):,} × {vectors.shape[1]}: written in {time.process_time() - started:.2f} s")
        if options.lists:
            started = time.process_time()
            made = store.build_lists()
            print(f"{made:,} lists made in {time.process_time() - started:.1f} s")
        ways: dict[str, Callable[[], Any]] = {
            "NumPy, one product a query": lambda: [
                np.argpartition(-(vectors @ query), TOP) for query in queries[:QUERIES]
            ],
            "exact, one by one": lambda: [store.search(query, TOP, method="exact") for query in queries[:QUERIES]],
            "codes, one by one": lambda: [store.search(query, TOP, method="codes") for query in queries[:QUERIES]],
            "exact, 100 together": lambda: store.search(queries, TOP, method="exact"),
            "codes, 100 together": lambda: store.search(queries, TOP, method="codes"),
        }
        if options.lists:
            ways["lists, one by one"] = lambda: [
                store.search(query, TOP, method="lists") for query in queries[:QUERIES]
            ]
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds + 1):
            for name, way in ways.items():
                started = time.process_time()
                way()
                took[name].append(time.process_time() - started)
        counts = {name: BATCH if "100" in name else QUERIES for name in ways}
        per_query = {name: 1e3 * statistics.median(each[1:]) / counts[name] for name, each in took.items()}
        base = per_query["exact, one by one"]
        print("\n| way | ms a query | of exact, one by one |\n| :-- | --: | --: |")
        for name, each in per_query.items():
            print(f"| {name} | {each:.2f} | {each / base:.2f} |")
        recalls = (f"{count} {store.recall(queries, TOP, 'codes', count):.4f}" for count in (200, 1000, 5000))
        print(f"\nRecall of codes by candidates: {', '.join(recalls)}")
        if options.lists:
            recalls = (f"{count} {store.recall(queries, TOP, 'lists', count):.4f}" for count in (4, 16, 64))
            print(f"Recall of lists by how many are looked at: {', '.join(recalls)}")


def moved(rows: int) -> Any:
    """Real embeddings of images, and as many random steps away from them as are asked for."""
    splits = rcc.load_data("digits")
    real = encoded_images(rcc.load_model("clip_tiny"), [image for _, split in splits for image in split.images])
    source = np.random.default_rng(0)
    step = 0.3 * real.std(axis=0)
    more = real[source.integers(0, len(real), rows)] + step * source.normal(size=(rows, real.shape[1]))
    return _unit(np.concatenate([real, more])[:rows])


def clusters(rows: int, dimensions: int) -> Any:
    source = np.random.default_rng(0)
    centres = source.normal(size=(rows // 100, dimensions))
    return _unit(centres[source.integers(0, len(centres), rows)] + 0.7 * source.normal(size=(rows, dimensions)) + 0.5)


def _unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
