"""One linear layer of ViT-B/32 with each kernel of `rcc.runtime`, against the layer as stored in float32.

    python benchmarks/inference_layers.py
    python benchmarks/inference_layers.py --threads 1

50 rows are one image, 1600 are 32. All kernels take turns; the least of several times counts, as it does when
runtime=auto chooses. The int8 kernels quantise their input inside the time.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from inference import RESULTS, machine
from torch import Tensor

from rcc.layers.form import Form
from rcc.layers.modules import FormLinear
from rcc.ops.factorise import rank_by_share
from rcc.runtime.kernels import kernels
from rcc.runtime.timing import interleaved

SHAPES = ((768, 768), (3072, 768), (768, 3072))
ROWS = (50, 1600)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=None, help="torch's own choice by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each layer")
    parser.add_argument("--quick", action="store_true", help="an eighth of every width: checks the program")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    torch.manual_seed(0)
    rows = []
    with torch.inference_mode():
        for out, width in SHAPES:
            shape = (out // 8, width // 8) if options.quick else (out, width)
            for name, form in forms(*shape).items():
                for count in ROWS:
                    faster = speedups(form, torch.randn(count, shape[1]), options.seconds)
                    rows.append({"layer": f"{shape[0]}×{shape[1]}", "form": name, "rows": count, "faster": faster})
    options.output.mkdir(parents=True, exist_ok=True)
    path, result = options.output / "inference_layers", {"machine": machine(), "layers": rows}
    path.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(f"\n{table(result)}\nWritten: {path}.json, {path}.md")


def forms(out: int, width: int) -> dict[str, Form]:
    """A layer as it is, a quarter of its parameters as a pair, and with 95 % zeros."""
    weight, bias, rank = torch.randn(out, width), torch.randn(out), rank_by_share((out, width), 0.25)
    zeros = torch.rand(out, width) < 0.95
    return {
        "dense": Form(weight, bias=bias),
        "¼ low rank": Form(left=torch.randn(out, rank), right=torch.randn(rank, width), bias=bias),
        "95 % sparse": Form(weight.masked_fill(zeros, 0), bias=bias),
    }


def speedups(form: Form, inputs: Tensor, seconds: float) -> dict[str, float]:
    """How many times faster each kernel is than the form as stored, by kernel and dtype."""
    ways: dict[str, Any] = {"as stored": partial(FormLinear(form), inputs)}
    for dtype in (torch.float32, torch.bfloat16):
        typed, name = inputs.to(dtype), str(dtype).removeprefix("torch.")
        half = Form(*(None if part is None else part.to(dtype) for part in (form.sparse, form.left, form.right)))
        if dtype is torch.bfloat16:
            ways[f"as stored {name}"] = partial(FormLinear(half), typed)
        for kernel in kernels(form, dtype, "auto", CPU):
            if not kernel.composed:
                ways[f"{kernel.name} {name}"] = partial(kernel.build(form, dtype), typed)
    least = {name: min(times) for name, times in interleaved(ways, CPU, seconds=seconds).items()}
    return {name: least["as stored"] / times for name, times in least.items()}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    about, layers = result["machine"], result["layers"]
    names = list(dict.fromkeys(name for row in layers for name in row["faster"]))
    lines = [
        f"{about['processors']} processors ({about['cpu']}), {about['threads']} threads, torch {about['torch']}. "
        "How many times faster than the layer as stored in float32.",
        "",
        "| layer | form | rows | " + " | ".join(names[1:]) + " |",
        "| :-- | :-- | --: |" + " --: |" * (len(names) - 1),
    ]
    for row in layers:
        cells = (f"{row['faster'][name]:.2f}" if name in row["faster"] else "" for name in names[1:])
        lines.append(f"| {row['layer']} | {row['form']} | {row['rows']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
