"""The recipes that the quality benchmark compares, each as overrides of `rcc-run`. None was tuned on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALWAYS = ("gate.on_failure=continue", "gate.tries=0", "threads=1")
"""What a recipe does to the quality is to be seen, not rolled back."""
ONE_BATCH = "calibration.batch_size=256"
"""The sums over the calibration split do not depend on its batches, and one batch costs the least."""
FIXED = "target_split=last"
"""The first of two stages keeps the strength that its recipe gives it."""
SIX_ROUNDS = ("schedule=geometric", "schedule.rounds=6")
ONE_SHOT = ("schedule=one_shot",)
UNIFORM = "stage.dare.allocation=uniform"
MASKS = ("stage.dare.solver=none", UNIFORM)
ADMM = "stage.dare.solver=admm"
SENSITIVITY = "stage.dare.allocation=sensitivity"
PATCHES_TOO = "stage.dare.include=['*.self_attn.*','*.mlp.*','*projection','*patch_embedding']"

MODERATE = (13.0,)
STRONG = (15.0, 22.0, 30.0, 50.0)
COMPARED = (30.0,)


@dataclass(frozen=True)
class Recipe:
    """A cascade and the ratios, dense float32 bytes to artifact bytes, at which it is measured."""

    name: str
    overrides: Sequence[str]
    ratios: Sequence[float] = MODERATE

    def at(self, ratio: float) -> tuple[str, ...]:
        """The overrides of `rcc-run` for this ratio."""
        quantised = "quant" in self.overrides[0]
        bits = quantisation(ratio) if quantised else ()
        batches = () if "alpha" in self.overrides[0] else (ONE_BATCH,)  # of a batch, a step of learning
        return (*self.overrides, *bits, *batches, *ALWAYS, f"target_ratio={ratio:g}")


def quantisation(ratio: float) -> tuple[str, ...]:
    """Bits of values and of embeddings, which must shrink with the rest to leave the rest anything."""
    if ratio < 30:
        return ("stage.quant.bits=5", "stage.quant.embedding_bits=4")
    if ratio < 50:
        return ("stage.quant.bits=4", "stage.quant.embedding_bits=3")
    return ("stage.quant.bits=4", "stage.quant.embedding_bits=2", PATCHES_TOO)


def nullu_first(share: float) -> tuple[str, ...]:
    """Pairs of all ranks that `share` fewer parameters buy, in the calibration metric, for pruning afterwards."""
    options = f"stage.nullu.rank_reduction_ratio={share:g}", "stage.nullu.energy_threshold=null"
    return ("stage.nullu.metric=calibration", FIXED, *options)


PLAIN = ("stage.nullu.metric=plain", "stage.nullu.energy_threshold=null")
WHITENED = ("stage.nullu.metric=calibration", "stage.nullu.energy_threshold=null")
WANDA = ("stage.dare.score=wanda", "stage.dare.scope=layer")

RECIPES = (
    Recipe("magnitude, per layer", ("stage=dare", *ONE_SHOT, *MASKS, "stage.dare.scope=layer")),
    Recipe("magnitude, global", ("stage=dare", *ONE_SHOT, *MASKS, "stage.dare.scope=global")),
    Recipe("plain SVD", ("stage=nullu", *ONE_SHOT, *PLAIN)),
    Recipe(
        "prune 80 %, then plain SVD",
        ("stage=dare+nullu", FIXED, *ONE_SHOT, *MASKS, "stage.dare.target_sparsity=0.8", *PLAIN),
    ),
    Recipe("whitened SVD", ("stage=nullu", *ONE_SHOT, *WHITENED)),
    Recipe(
        "whitened SVD, then Wanda on the factors", ("stage=nullu+dare", *ONE_SHOT, *nullu_first(0.75), *MASKS, *WANDA)
    ),
    Recipe("SparseGPT, one shot", ("stage=dare", *ONE_SHOT, "stage.dare.solver=obs", UNIFORM)),
    Recipe("ADMM, one shot", ("stage=dare", *ONE_SHOT, ADMM, UNIFORM)),
    Recipe("ADMM, six rounds", ("stage=dare", *SIX_ROUNDS, ADMM, UNIFORM)),
    Recipe("ADMM, six rounds, by sensitivity", ("stage=dare", *SIX_ROUNDS, ADMM, SENSITIVITY)),
    Recipe("dare+quant", ("stage=dare+quant", *SIX_ROUNDS, ADMM, SENSITIVITY), STRONG),
    Recipe("dare+alpha+quant", ("stage=dare+alpha+quant", *SIX_ROUNDS, ADMM, SENSITIVITY), COMPARED),
    Recipe(
        "nullu(0.5)+dare+quant",
        ("stage=nullu+dare+quant", *SIX_ROUNDS, ADMM, SENSITIVITY, *nullu_first(0.5)),
        COMPARED,
    ),
    Recipe(
        "nullu+dare+quant, shares measured",
        ("stage=nullu+dare+quant", *SIX_ROUNDS, ADMM, SENSITIVITY, *WHITENED),
        COMPARED,
    ),
)
"""All of them; those with quant come with a ranking."""
