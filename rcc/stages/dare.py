"""DARE: pruning to an exact count of zeros, over whatever is stored, in one step or along a schedule.

The maths, its sources and where it departs from the specification: docs/method/dare.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rcc.calibration.checkpoints import Checkpoint
from rcc.errors import Problems, UserError
from rcc.layers.selection import Selection, Skipped
from rcc.ops.allocate import energy_lost
from rcc.ops.curves import share
from rcc.stages.base import Compressible, Stage, StageContext, StageReport, UnitPlan, naming, planned
from rcc.stages.pruned_values import Deltas, StoredValues, Values
from rcc.stages.pruning_options import check_options, is_number, scope_for
from rcc.stages.pruning_plan import plan_pruning, pools_by_scope
from rcc.stages.pruning_rescale import by_least_squares, by_number, by_share_kept
from rcc.stages.pruning_state import PruningState

MIB = 2**20


class DARECompressor(Stage):
    """Sets the least important values to zero until exactly `target_sparsity` of what is stored is zero.

    Args:
        target_sparsity: share of the stored values (of S, or of U and V together) that are zero afterwards,
            in [0, 0.99]. Values that are zero already count, and are the first to be taken.
        num_iterations: pruning steps towards the target; the last one reaches it exactly.
        schedule: how much of the target each step asks for, a name of `rcc.ops.curves.CURVES`.
        scope: what shares one budget: every 'layer' by itself, a 'tower', or the whole model ('global'). 'row' is
            a layer whose rows all give up the same share. None: 'row' for score='wanda', else 'layer'.
        score: 'magnitude' removes the smallest, 'random' any, 'wanda' those of least magnitude × norm of the
            input on the calibration data.
        allocation: 'uniform' gives each pool the same share; 'importance' gives each what makes the sum of
            the pools' relative output errors least, with the same total.
        rescale: what is done to the survivors. 'none'; 'least_squares' fits one factor per output channel to
            the original weights' outputs on the calibration data; 'dare' multiplies by 1/(1 − share removed),
            which is right for random dropping and wrong after magnitude pruning.
        base: a checkpoint directory or .safetensors file: true DARE, the *deltas* to it are dropped at random
            and the rest rescaled. Takes score='random' and rescale='dare'.
        include, exclude, roles, towers: which units; see `Selection`.

    Raises:
        UserError: everything that is wrong with the options, at once.

    `apply` does all of it. By hand: `prepare(model)`, `apply_pruning_step()` as often as `num_iterations`
    says, with training in between if so wished, then `rescale_weights()`. The attributes speak of the model
    last prepared: `current_sparsity` is the share of its values that are zero, `layer_importance` the
    relative output error per MiB removed, `scale_factors` what each layer was last multiplied by.
    """

    method = "dare"
    strength_option = "target_sparsity"

    def __init__(
        self,
        target_sparsity: float = 0.7,
        num_iterations: int = 1,
        schedule: str = "polynomial",
        scope: str | None = None,
        score: str = "magnitude",
        allocation: str = "uniform",
        rescale: str = "none",
        base: str | Path | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        towers: Sequence[str] | None = None,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name != "self"}
        check_options(**self._options)
        self.target_sparsity = float(target_sparsity)
        self.num_iterations = num_iterations
        self.pruning_schedule = schedule
        self.scope = scope_for(score, scope)
        self.score, self.allocation, self.rescale = score, allocation, rescale
        self.base = base
        self.needs_calibration = rescale == "least_squares" or score == "wanda"
        self.selection = Selection(include, exclude, roles, towers)

        self.model: Compressible | None = None
        self.current_sparsity = 0.0
        self.current_iteration = 0
        self.layer_importance: dict[str, float] = {}
        self.scale_factors: dict[str, float] = {}
        self._prepared: PruningState | None = None

    @property
    def strength(self) -> float:
        return self.target_sparsity

    def at(self, strength: float) -> Self:
        return type(self)(**{**self._options, "target_sparsity": strength}).labelled(self.label)

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        if self.base is not None:
            return [planned(unit, "deltas are dropped: the weights stay dense and save no bytes") for unit in units]
        return plan_pruning(units, self.target_sparsity, self.scope, self.allocation, itemsize)

    def apply(self, model: Compressible, context: StageContext) -> StageReport:
        skipped = self.prepare(model, context)
        for _ in range(self.num_iterations):
            self.apply_pruning_step()
        self.rescale_weights()
        return StageReport(touched=self._touched(), skipped=skipped, facts=self._facts())

    @torch.no_grad()
    def prepare(self, model: Compressible, context: StageContext | None = None) -> list[Skipped]:
        """Choose the units of `model` and stand before the first step; returns the units left alone.

        Raises:
            UserError: weights that are not finite, tensors missing from `base`, or no calibration data for
                rescale=least_squares or score=wanda. No weight has been touched then.
        """
        context = context or StageContext()
        units, skipped = self.choose(model)
        if self.rescale == "least_squares" and context.calibration is None:
            raise UserError(
                f"{self.who}: rescale=least_squares fits the survivors to the original outputs on"
                " calibration data, and there is none. Choose data with a calibration split, or rescale=none:"
                " without inputs the least-squares factor of a masked weight is exactly 1."
            )
        if self.score == "wanda" and not context.calibration:
            raise UserError(
                f"{self.who}: score=wanda weighs each value by its input on calibration data, and there is none."
                " Choose data with a calibration split (from Python: StageContext(calibration=batches)), or"
                " score=magnitude."
            )
        values: Values = StoredValues()
        if self.base is not None:
            values = Deltas(Checkpoint(self.base, f"{self.who}: base"), units)
        self._prepared = PruningState(units, values, context)
        self.model = model
        self.current_iteration = 0
        self.layer_importance, self.scale_factors = {}, {}
        for unit in units:
            with naming(self, unit):
                self.compute_layer_importance(unit.name, *self._state.matrices(unit).values())
        self.current_sparsity, _ = self._state.sparsity()
        return skipped

    def compute_layer_importance(self, layer_name: str, *weight_tensors: Tensor) -> float:
        """Relative squared output error that magnitude pruning to the target costs, per MiB it removes.

        Inputs are taken to have unit second moment; a layer held as factors is given as all of them. Kept in
        `layer_importance`. 0 for a layer of zeros, and at target 0, where nothing is removed.
        """
        itemsize = self._prepared.context.itemsize if self._prepared else StageContext().itemsize
        count = round(self.target_sparsity * sum(tensor.numel() for tensor in weight_tensors))
        importance = energy_lost(weight_tensors, count) * MIB / (count * itemsize) if count else 0.0
        self.layer_importance[layer_name] = importance
        return importance

    def calculate_sparsity_schedule(self, iteration: int) -> float:
        """The share of zeros due after step `iteration` (from 0): the target itself after the last."""
        return self.target_sparsity * share(self.pruning_schedule, iteration, self.num_iterations)

    @torch.no_grad()
    def apply_pruning_step(self) -> dict[str, float]:
        """Prune to what the schedule asks for now; returns the share of zeros of every layer.

        Raises:
            UserError: nothing was prepared, or all steps are done.
        """
        state = self._state
        if self.current_iteration >= self.num_iterations:
            raise UserError(
                f"{self.who}: all {self.num_iterations} pruning steps are done. Call prepare(model) to start"
                " anew, or give num_iterations the number of steps there are to be."
            )
        target = self.calculate_sparsity_schedule(self.current_iteration)
        if self.score == "wanda":
            assert self.model is not None
            state.calibrate(self.model)
        pools = pools_by_scope(state.units, self.scope)
        budgets = state.budgets(pools, target, self.allocation)
        done = self.current_iteration * len(state.units)
        for pool, count in zip(pools, budgets, strict=True):
            masks = state.masks(pool, self.score, self.scope, count)
            for unit in pool:
                with naming(self, unit):
                    state.prune(unit, masks)
                done += 1
                state.context.progress(done, len(state.units) * self.num_iterations, "layers")
        self.current_iteration += 1
        self.current_sparsity, by_layer = state.sparsity()
        return by_layer

    @torch.no_grad()
    def rescale_weights(self, scale_factor: float | None = None) -> None:
        """Multiply what survived: every weight by `scale_factor`, or else as the option `rescale` says.

        Raises:
            UserError: nothing was prepared, or the factor is not a positive number.
        """
        state = self._state
        if scale_factor is not None:
            if not (is_number(scale_factor) and 0 < scale_factor < math.inf):
                raise UserError(f"{self.who}: scale_factor is {scale_factor}; it must be a positive number.")
            self.scale_factors = by_number(state, scale_factor)
        elif self.rescale == "least_squares":
            assert self.model is not None
            self.scale_factors = by_least_squares(state, self.model)
        elif self.rescale == "dare":
            self.scale_factors = by_share_kept(state)
        state.note_counts()

    def get_compression_stats(self) -> dict[str, Any]:
        """Counts, shares of zeros and encoded bytes of the units prepared, in all and by layer."""
        return self._state.totals()

    @torch.no_grad()
    def restore_weights(self, layer_names: Sequence[str] | None = None) -> None:
        """Put the original weights back, bit for bit, in all layers or in those named.

        With a `context.reference` the originals are the dense model's; else what `prepare` found. Restoring
        all also starts the schedule anew.

        Raises:
            UserError: nothing was prepared, or a name that is not among the units.
        """
        state = self._state
        by_name = {unit.name: unit for unit in state.units}
        problems = Problems(self.who)
        for name in layer_names or ():
            problems.choice("layer", name, by_name)
        problems.done()
        for name in by_name if layer_names is None else layer_names:
            state.restore(by_name[name])
        if layer_names is None:
            self.current_iteration = 0
        state.note_counts()
        self.current_sparsity, _ = state.sparsity()

    @property
    def pruning_masks(self) -> dict[str, Tensor]:
        """True where a value is kept, made from the values as they are: by layer, or 'layer.left' and
        'layer.right' where factors are stored."""
        return self._state.kept()

    @property
    def original_weights(self) -> dict[str, Tensor]:
        """The dense weight (out, in) that `restore_weights` goes back to, by layer."""
        return {unit.name: self._state.original(unit).dense() for unit in self._state.units}

    @property
    def device(self) -> torch.device | None:
        """Where the prepared model is; None before."""
        return None if self.model is None else next(self.model.module.parameters()).device

    @property
    def _state(self) -> PruningState:
        if self._prepared is None:
            raise UserError(f"{self.who}: no model yet. Call apply(model, context) or prepare(model) first.")
        return self._prepared

    @torch.no_grad()
    def _touched(self) -> dict[str, dict[str, Any]]:
        touched = {}
        for unit in self._state.units:
            touched[unit.name] = self._state.facts(unit) | {"importance": self.layer_importance[unit.name]}
            if unit.name in self.scale_factors:
                touched[unit.name]["scale"] = self.scale_factors[unit.name]
        return touched

    def _facts(self) -> dict[str, Any]:
        return {
            "target_sparsity": self.target_sparsity,
            "sparsity": self.current_sparsity,
            "steps": [self.calculate_sparsity_schedule(step) for step in range(self.num_iterations)],
            "scope": self.scope,
            "score": self.score,
            "allocation": self.allocation,
            "rescale": self.rescale,
            "of": "deltas" if self.base is not None else "stored values",
        }
