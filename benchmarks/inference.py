"""Throughput of a CLIP vision tower of ViT-B/32 shapes: dense and int8 peers against runtime=auto, in one process.

    python benchmarks/inference.py
    python benchmarks/inference.py --batch 1
    python benchmarks/inference.py --quick --output build

torchao joins as a peer where it can be imported; it needs no place in the project's environment:

    pip install --no-deps --target build/torchao torchao
    PYTHONPATH=build/torchao python benchmarks/inference.py

The weights are random with singular values i^-½, the images random. Kernels are chosen on one batch, outputs are
compared on another. All ways take turns; what counts are ratios of medians in one run. The cosine is that of the
outputs to the dense ones, as they are and about the mean output: a random network gives all images nearly the same
output, so that the first says little (the table has it for two different images).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from rcc.layers.form import Form
from rcc.layers.units import find_units
from rcc.models.own.module import ModuleAdapter
from rcc.ops.factorise import factor_pair, rank_by_share, thin_svd
from rcc.ops.quadratic import Quadratic
from rcc.ops.whitened import whitened
from rcc.runtime.agreement import item_cosines
from rcc.runtime.optimise import optimise
from rcc.runtime.records import RuntimePlan

RESULTS = Path(__file__).resolve().parent / "results"
ASKED, LEAST_COSINE = 5.0, 0.95
RANK_MULTIPLE = 16  # ranks are rounded down to whole vectors of the processor
Tower = CLIPVisionModelWithProjection


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=None, help="torch's own choice by default")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", default="", help="of our models those with this in their name, 'dense' say")
    parser.add_argument("--quick", action="store_true", help="two small layers: checks the program, not the speed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the JSON and the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    warnings.filterwarnings("ignore", category=UserWarning)  # deprecations of the peers
    config = shapes(options.quick)
    dense = power_law_tower(config)
    batches = [images(config, options.batch, seed) for seed in (1, 2, 3)]
    ways, plans = everything(dense, *batches[:2], options.only)
    rows = measure(ways, batches[2], options.repeats)
    result = {"machine": machine(), "batch": options.batch, "repeats": options.repeats, "rows": rows, "plans": plans}
    write(result, options.output / ("inference" if options.batch == 32 else f"inference_batch_{options.batch}"))


def shapes(quick: bool) -> CLIPVisionConfig:
    sizes = (32, 64, 2, 2, 32, 8, 16) if quick else (768, 3072, 12, 12, 224, 32, 512)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("image_size", "patch_size", "projection_dim")
    return CLIPVisionConfig(**dict(zip(names, sizes, strict=True)))


def power_law_tower(config: CLIPVisionConfig, seed: int = 0) -> Tower:
    """Random weights of the usual size whose singular values fall like i^-½."""
    torch.manual_seed(seed)
    tower = Tower(config).eval().requires_grad_(False)
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            out, width = module.weight.shape
            values = torch.arange(1, min(out, width) + 1).rsqrt()
            values *= module.weight.norm() / values.norm()
            left, right = (torch.linalg.qr(torch.randn(size, len(values)))[0] for size in (out, width))
            module.weight.copy_(left * values @ right.T)
            if module.bias is not None:
                module.bias.normal_(0, 0.01)
    return tower


def images(config: CLIPVisionConfig, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, config.image_size, config.image_size, generator=generator)


def everything(
    dense: Tower, calibration: Tensor, chosen_on: Tensor, only: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every way as a function of the pixels, and the plans of ours."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "dense fp32": partial(run, dense),
        "dense bf16": partial(run, deepcopy(dense).bfloat16()),
        "torch.ao int8 dynamic": partial(run, torch.ao.quantization.quantize_dynamic(deepcopy(dense), {nn.Linear})),
        **torchao(dense),
    }
    plans = {}
    for name, compress in {
        "dense": None,
        "½ of the parameters": partial(low_rank, share=0.5),
        "¼ of the parameters": partial(low_rank, share=0.25),
        "½ of the parameters, whitened": partial(low_rank, share=0.5, calibration=calibration),
        "¼ of the parameters, whitened": partial(low_rank, share=0.25, calibration=calibration),
        "95 % sparse": partial(sparse, share=0.95),
    }.items():
        if only not in name:
            continue
        tower = deepcopy(dense)
        if compress is not None:
            compress(tower)
            if "whitened" not in name:  # as fast as without
                ways[f"{name}, as stored"] = partial(run, deepcopy(tower))
        adapter = ModuleAdapter(tower, outputs=lambda batch, tower=tower: {"output": run(tower, batch["pixels"])})
        plan = optimise(adapter, {"pixels": chosen_on})
        ways[f"{name}, runtime=auto"], plans[name] = partial(run, tower), summary(plan)
    return ways, plans


def torchao(dense: Tower) -> dict[str, Callable[[Tensor], Tensor]]:
    """torchao's int8 dynamic in both dtypes, run eagerly; nothing where it is not installed."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        print("torchao is not installed: it is left out.")
        return {}
    ways = {}
    for dtype in (torch.float32, torch.bfloat16):
        tower = deepcopy(dense).to(dtype)
        quantize_(tower, Int8DynamicActivationInt8WeightConfig())
        ways[f"torchao int8 dynamic, {str(dtype).removeprefix('torch.')}"] = partial(run, tower)
    return ways


def run(tower: Tower, pixels: Tensor) -> Tensor:
    """Projected embeddings (N, D)."""
    output: Tensor = tower(pixel_values=pixels.to(next(tower.parameters()).dtype)).image_embeds
    return output


def low_rank(tower: Tower, share: float, calibration: Tensor | None = None) -> None:
    """Truncate every layer to `share` of its parameters, in the metric of its inputs on `calibration` if given."""
    layers = [unit for unit in find_units(tower) if unit.kind == "linear" and ".layers." in unit.name]
    moments: dict[str, Tensor] = {}

    def take(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor, name: str) -> None:
        rows = inputs[0].flatten(0, -2)
        moments[name] = rows.T @ rows / len(rows)

    if calibration is not None:
        hooks = [unit.module.register_forward_hook(partial(take, name=unit.name)) for unit in layers]
        run(tower, calibration)
        for hook in hooks:
            hook.remove()
    for unit in layers:
        form = unit.read()
        assert form.sparse is not None
        rank = max(1, rank_by_share(unit.shape, share) // RANK_MULTIPLE * RANK_MULTIPLE)
        if calibration is None:
            pair = factor_pair(thin_svd(form.sparse), rank)
        else:
            pair = whitened(Quadratic.around(form.sparse, moments.pop(unit.name)).damped(form.sparse)).pair(rank)
        unit.write(Form(None, *pair, bias=form.bias))


def sparse(tower: Tower, share: float) -> None:
    """Set the smallest `share` of every layer's weights to zero."""
    for unit in find_units(tower):
        if unit.kind == "linear" and ".layers." in unit.name:
            weight = unit.module.weight
            weight[weight.abs() < weight.abs().flatten().kthvalue(int(share * weight.numel())).values] = 0


def summary(plan: RuntimePlan) -> dict[str, Any]:
    """The plan without its single units: how many layers of each shape got which kernel."""
    picked = Counter(f"{pick.shape[0]}×{pick.shape[1]} {pick.form}: {pick.kernel}" for pick in plan.picks)
    return {**plan.to_json(), "picks": dict(picked), "speedup": plan.speedup}


@torch.inference_mode()
def measure(ways: dict[str, Callable[[Tensor], Tensor]], pixels: Tensor, repeats: int) -> list[dict[str, Any]]:
    """Medians over `repeats` rounds by the clock and of processor time, and the cosines to the first way's outputs."""
    outputs = {name: way(pixels).float() for name, way in ways.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way(pixels)
            taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
    reference = {"output": outputs["dense fp32"]}
    rows = []
    for name, times in taken.items():
        seconds, processor = (statistics.median(column) for column in zip(*times, strict=True))
        cosine, centred = item_cosines({"output": outputs[name]}, reference)
        row = {"way": name, "seconds": seconds, "processor": processor, "cosine": cosine, "centred_cosine": centred}
        rows.append({**row, "images_per_second": len(pixels) / seconds})
    for row in rows:
        row |= {
            "faster": rows[0]["seconds"] / row["seconds"],
            "less_processor": rows[0]["processor"] / row["processor"],
        }
    if len(pixels) > 1:
        other = item_cosines({"output": reference["output"].roll(1, 0)}, reference)
        rows.append({"way": "another image's dense output", "cosine": other[0], "centred_cosine": other[1]})
    return rows


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    about = result["machine"]
    lines = [
        f"{about['processors']} processors ({about['cpu']}), {about['threads']} threads, torch {about['torch']}; "
        f"batch of {result['batch']}, medians of {result['repeats']} interleaved repeats.",
        "",
        "| way | images a second | × dense fp32 | × less processor time | cosine | about the mean |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for row in result["rows"]:
        timed = ("", "", "") if "seconds" not in row else (
            f"{row['images_per_second']:.1f}", f"{row['faster']:.2f}", f"{row['less_processor']:.2f}"
        )  # fmt: skip
        lines.append(
            "| " + " | ".join((row["way"], *timed, f"{row['cosine']:.4f}", f"{row['centred_cosine']:.4f}")) + " |"
        )
    lines += ["", "| what runs with runtime=auto | dtype | kernels |", "| :-- | :-- | :-- |"]
    for name, plan in result["plans"].items():
        kernels = "; ".join(f"{count} of {picked}" for picked, count in plan["picks"].items())
        lines.append(f"| {name} | {plan['dtype']} | {kernels} |")
    return "\n".join([*lines, "", verdict(result["rows"]), ""])


def verdict(rows: list[dict[str, Any]]) -> str:
    """The fastest way of ours that keeps the outputs, against what is asked."""
    kept = [row for row in rows if "runtime" in row["way"] and row["centred_cosine"] >= LEAST_COSINE]
    best = max(kept, key=lambda row: float(row["faster"]), default=None)
    if best is None:
        return f"No way of ours keeps the outputs to a cosine of {LEAST_COSINE} about their mean."
    reached = "reached" if best["faster"] >= ASKED else "MISSED"
    return (
        f"Asked: {ASKED:.0f} times the throughput of dense fp32 at a cosine of {LEAST_COSINE} or more. With the cosine "
        f"about the mean output: {best['faster']:.2f} times by {best['way']} ({reached})."
    )


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "cpu": names[0] if names else platform.processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def write(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result), encoding="utf-8")
    print(f"\n{table(result)}\nWritten: {path}.json, {path}.md")


if __name__ == "__main__":
    main()
