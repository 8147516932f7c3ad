"""Describes the digits CLIP of three training seeds, made small by `rcc-run` with its own gate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from equal_bytes.figures import Figure, mean, paired_means
from equal_bytes.limits import Goal, at_least
from torch import Tensor, nn

from rcc.artifact.load import load
from rcc.data.registry import load_data
from rcc.data.splits import Split, Splits
from rcc.evaluation.classes.zero_shot import ZeroShotEvaluator
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.registry import load_model
from subjects.subject import Answers, Subject

SEEDS = (0, 1, 2)
CALIBRATION, BATCH = 256, 16


class Digits(Subject):
    """The shipped CLIP, which is of seed 0; each other seed is trained once, in a minute or two of one core."""

    name = "digits"
    title = "digits CLIP, 360 test images, mean of three dense seeds"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "accuracy": ("accuracy, %", ".2f"),
        "change": ("Δ accuracy, points", "+.2f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        30.0: Goal([at_least("accuracy", 98.2)], []),
        50.0: Goal([at_least("accuracy", 98.0)], [at_least("change", 0.0)]),
        80.0: Goal([at_least("accuracy", 97.0)], [at_least("accuracy", 98.0)]),
    }
    note = (
        "By `rcc-run target_ratio=…` with its defaults, its gate and the settings in the manifest; bytes are those of"
        " three directories."
    )

    def __init__(self, data: Path, work: Path, seed: int = 0) -> None:
        super().__init__(data, work)
        self.seed = seed

    def parts(self) -> Sequence[Subject]:
        return [Digits(self.data, self.work, seed) for seed in SEEDS]

    @property
    def overrides(self) -> list[str]:
        return ["model=clip_tiny"] if self.seed == 0 else ["model=clip", f"model.path={self._checkpoint}"]

    def skeleton(self) -> nn.Module:
        return self.dense().module

    def dense(self) -> Adapter:
        if self.seed == 0:
            return load_model("clip_tiny", device="cpu")
        return load_model("clip", path=str(self._checkpoint), device="cpu")

    def adapter(self, module: nn.Module) -> Adapter:
        raise NotImplementedError("a CLIP of the project is its own adapter")

    def reload(self, folder: Path) -> Adapter:
        return load(folder)

    def calibration(self) -> list[Batch]:
        split, model = self._splits.calibration, self.dense()
        batches = (slice(start, start + BATCH) for start in range(0, min(CALIBRATION, len(split)), BATCH))
        return [model.prepare(images=list(split.images[part]), texts=list(split.texts[part])) for part in batches]

    def selection_quality(self, model: Adapter) -> float:
        return self._right(model, self._splits.selection).mean().item()

    def answers(self, model: Adapter) -> Answers:
        return {"right": self._right(model, self._splits.test)[None]}

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        # Items are images: what the seeds say of one image goes together.
        ours, theirs = answers["right"].mean(0), dense["right"].mean(0)
        return {"accuracy": mean(ours).scaled(100), "change": paired_means(ours, theirs).scaled(100)}

    def _right(self, model: Adapter, split: Split) -> Tensor:
        """(n,) 1 for each image whose class is the nearest."""
        found = ZeroShotEvaluator().evaluate(model, split, self._splits)
        return torch.tensor(found.details["per_image"]["accuracy"], dtype=torch.float64)

    @cached_property
    def _splits(self) -> Splits:
        return load_data("digits")

    @property
    def _checkpoint(self) -> Path:
        place = self.work / f"digits-{self.seed}"
        if not (place / "checkpoint").exists():
            arguments = ["job=train", f"seed={self.seed}", "threads=1", f"hydra.run.dir={place}"]
            subprocess.run([sys.executable, "-m", "rcc.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
        return place / "checkpoint"
