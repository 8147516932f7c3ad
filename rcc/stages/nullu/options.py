"""Define the options of the low-rank stage, and check them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from rcc.errors import Problems
from rcc.ops.factorise import FACTORS, PRECISIONS
from rcc.stages.options import AUTO, StageOptions

METRICS = ("plain", "calibration")
PARTS = ("weight", "residual", "joint")
ALLOCATIONS = ("uniform", "spectra")
SCOPES = ("global", "tower")


@dataclass(frozen=True)
class NulluOptions(StageOptions):
    """How a low-rank stage chooses ranks, and what its pairs are nearest to.

    Attributes:
        rank_reduction_ratio: share of a weight's parameters to do without, in [0, 1): factors of rank r hold
            r (m + n) values, and at most 1 - ratio of m n are kept. None switches the rule off.
        energy_threshold: share of the squared singular values to keep, in (0, 1]. None switches the rule off.
            The smaller of the two ranks is taken, and the report says which rule bound.
        paired_features: a safetensors file with '<unit>.positive' and '<unit>.negative', (n, out) each: the
            units it names are first projected out of the leading directions of positive - negative.
        paired_rank: how many of these directions.
        precision: 'auto', 'float64' or 'float32': how a plain SVD is computed, see `ops.factorise.thin_svd`. The
            calibrated metric takes float64 up to 1024 inputs and float32 beyond.
        factors: 'orthonormal' (singular values in U, rows of V orthonormal) or 'balanced' (half of them in
            each).
        metric: what 'nearest' means. 'plain': the weights, ‖W − U V‖. 'calibration': the dense model's outputs
            on the calibration data, given the inputs that the layer sees in the compressed model, layer after
            layer, E‖y − U V x − b‖²; energy and orthonormal are then of that metric too. 'auto': 'calibration' where
            there is such data, else 'plain'.
        of: 'weight' makes one pair of all there is; 'residual' keeps S as it is and adds the pair that is best beside
            it (in the plain metric, of W0 − S); 'joint' finds an S of its own beside the pair.
        sparse_share: for 'joint', S's part of the parameters that the ratio leaves, in (0, 1).
        allocation: 'uniform' leaves each layer the same share of its parameters; 'spectra' spends the share of all
            layers' parameters where it lowers their relative errors most. That takes a second pass over the data.
        scope: for 'spectra', what shares one budget: all layers ('global') or those of a 'tower'.
        refit: whether a pair that is there already, and would not get smaller, is fitted again to calibration data.
    """

    method: ClassVar[str] = "nullu"

    rank_reduction_ratio: float | None = 0.75
    energy_threshold: float | None = 0.95
    _: KW_ONLY
    paired_features: str | Path | None = None
    paired_rank: int = 1
    precision: str = "auto"
    factors: str = "balanced"
    metric: str = AUTO
    of: str = "weight"
    sparse_share: float = 0.5
    allocation: str = "uniform"
    scope: str = "global"
    refit: bool = True

    def check(self, problems: Problems) -> None:
        ratio, features = self.rank_reduction_ratio, self.paired_features
        if ratio is not None:
            problems.within("rank_reduction_ratio", ratio, "[0, 1)")
        if self.energy_threshold is not None:
            problems.within("energy_threshold", self.energy_threshold, "(0, 1]")
        problems.check(
            ratio is not None or self.energy_threshold is not None,
            "rank_reduction_ratio and energy_threshold are both null; one of them must choose the rank.",
        )
        if features is not None and problems.path("paired_features", features):
            problems.check(Path(features).is_file(), f"paired_features: there is no file {features}.")
        problems.whole("paired_rank", self.paired_rank, 1)
        problems.choice("precision", self.precision, PRECISIONS)
        problems.choice("factors", self.factors, FACTORS)
        problems.choice("metric", self.metric, (AUTO, *METRICS))
        problems.choice("of", self.of, PARTS)
        problems.within("sparse_share", self.sparse_share, "(0, 1)")
        problems.choice("allocation", self.allocation, ALLOCATIONS)
        problems.choice("scope", self.scope, SCOPES)
        problems.flag("refit", self.refit)
        if self.of == "joint":
            problems.check(
                ratio is not None, "of=joint divides what rank_reduction_ratio leaves between S and U V: set it."
            )
        if self.allocation == "spectra":
            problems.check(
                ratio is not None, "allocation=spectra spends what rank_reduction_ratio leaves of all layers: set it."
            )
        if not problems.found:  # what has an effect can be told of sound values alone
            self._check_unused(problems)

    def _check_unused(self, problems: Problems) -> None:
        if self.paired_features is None:
            self.unused(problems, ("paired_rank",), "without paired_features", "give their file")
        if self.of != "joint":
            self.unused(problems, ("sparse_share",), f"with of={self.of}", "take of=joint")
        if self.of != "weight":
            # What stays beside S is fitted in the precision that the number of inputs asks for.
            self.unused(problems, ("precision",), f"with of={self.of}, which takes no plain SVD", "take of=weight")
        if self.allocation != "spectra":
            self.unused(problems, ("scope",), "with a budget for each layer", "take allocation=spectra")

    def resolved(self, calibrated: bool) -> Self:
        return replace(self, metric="calibration" if calibrated else "plain") if self.metric == AUTO else self

    @property
    def needs_calibration(self) -> bool:
        return self.metric == "calibration"
