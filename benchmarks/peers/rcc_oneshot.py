"""Prunes the vision tower by this project's `dare`, in a process of its own; `against_llmcompressor.py` runs it.

python benchmarks/peers/rcc_oneshot.py wanda MODEL_DIRECTORY 32 RESULT.json
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from pruned_tower import load, measured
from safetensors import safe_open
from torch import Tensor

from rcc.artifact.on_demand import on_demand
from rcc.artifact.write import write_artifact
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor

METHODS = {
    "wanda": {"score": "wanda", "scope": "row"},
    "obs own": {"solver": "obs", "solver_target": "own", "solver_refit": 0},
    "obs own refit": {"solver": "obs", "solver_target": "own"},
    "obs": {"solver": "obs"},
    "admm6": {"solver": "admm", "solver_iterations": 6},
    "admm15": {"solver": "admm", "solver_iterations": 15},
}


def main() -> None:
    method, directory, batch, out = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    model = load(directory)
    adapter = ModuleAdapter(model, roles=lambda name, kind: (kind, "vision"), default_roles=("linear",))
    with tempfile.TemporaryDirectory() as scratch, safe_open(directory / "model.safetensors", "pt") as weights:
        dense = Path(scratch) / "dense"
        write_artifact(adapter, dense, entropy="none")  # what the cascade has of the dense model: its step 0
        stage = None if method == "dense" else DARECompressor(0.5, allocation="uniform", **METHODS[method])

        def prune(batches: list[dict[str, Tensor]]):
            context = StageContext(
                calibration=batches,
                reference=lambda name: weights.get_tensor(f"{name}.weight"),
                dense=lambda: on_demand(adapter, dense),
            )
            units = [unit for unit in adapter.units() if unit.kind == "linear"]
            if stage is not None:
                stage.apply(adapter, context)
            return lambda: {unit.name: unit.read().dense() for unit in units}

        measured(model, batch, prune, out)


if __name__ == "__main__":
    main()
