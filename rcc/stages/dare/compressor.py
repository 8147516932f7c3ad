"""DARE: pruning to an exact count of zeros, over whatever is stored, in one step or along a schedule.

The maths, its sources and where it departs from the specification: docs/method/dare.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.calibration.checkpoints import Checkpoint
from rcc.errors import UserError, is_number
from rcc.layers.model import Model
from rcc.layers.selection import Skipped
from rcc.layers.units import Unit
from rcc.ops.allocate import energy_lost
from rcc.ops.curves import share
from rcc.ops.patterns import pattern_mask
from rcc.stages.base import StageContext, StageReport, UnitPlan, naming, planned
from rcc.stages.dare.budgets import budgets
from rcc.stages.dare.options import MEASURED, DAREOptions
from rcc.stages.dare.plan import plan_pruning
from rcc.stages.dare.rescale import by_least_squares, by_number, by_share_kept
from rcc.stages.dare.solve import Solver
from rcc.stages.dare.state import PruningState
from rcc.stages.dare.values import Deltas, StoredValues, Values
from rcc.stages.dare.views import PruningViews

MIB = 2**20


class DARECompressor(PruningViews):
    """Sets the least important values to zero until exactly `target_sparsity` of what is stored is zero.

    Args: see `ConfiguredStage`; the options are those of `DAREOptions`.

    `apply` does all of it. By hand: `DARECompressor(model, …)` or `prepare(model)`, `apply_pruning_step()` as often as
    `num_iterations` says, with training in between if so wished, then `rescale_weights()`. The attributes speak of the
    model last prepared: `current_sparsity` is the share of its values that are zero, `layer_importance` the
    relative output error per MiB removed, `scale_factors` what each layer was last multiplied by.
    """

    method = "dare"
    strength_option = "target_sparsity"
    no_strength = "a pattern fixes the share of zeros"
    options_type = DAREOptions

    def forget(self) -> None:
        super().forget()
        # What 'auto' stands for is known once the data is: until then as without any.
        self._taken: DAREOptions = self.options
        self._solver: Solver | None = None
        self.layer_importance: dict[str, float] = {}
        self.scale_factors: dict[str, float] = {}
        self._solved: dict[str, dict[str, Any]] = {}

    def hold(self, model: Model) -> None:
        self.prepare(model)

    @property
    def strength(self) -> float | None:
        return None if self.options.pattern else float(self.options.target_sparsity)

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        if self.options.base is not None:
            return [planned(unit, "deltas are dropped: the weights stay dense and save no bytes") for unit in units]
        expected = self.options.resolved(calibrated=True)
        return plan_pruning(units, expected.target_sparsity, expected.shared_in, expected.allocation, itemsize)

    def apply(self, model: Model, context: StageContext) -> StageReport:
        skipped = self.prepare(model, context)
        for _ in range(self.options.num_iterations):
            self.apply_pruning_step()
        self.rescale_weights()
        return StageReport(
            touched=self._touched(), skipped=skipped, facts=self._facts() | self.chosen(self._taken, context)
        )

    @torch.no_grad()
    def prepare(self, model: Model, context: StageContext | None = None) -> list[Skipped]:
        """Choose the units of `model` and reset to before the first pruning step; returns the units left alone.

        Raises:
            UserError: weights that are not finite, tensors missing from `base`, no calibration data for an option
                that needs it, or layers that the solver or the pattern does not fit. No weight has been touched then.
        """
        context = context or StageContext()
        units, skipped = self.choose(model)
        self.forget()
        taken = self._taken = self.resolved_options(context)
        asking = taken.asking_for_data()
        if asking and not context.calibration:
            raise UserError(
                f"{self.who}: {asking} needs calibration data, and there is none. Choose data with a calibration"
                " split (from Python: StageContext(calibration=batches)), or leave that option at its default."
            )
        if taken.solver != "none":
            within = "row" if taken.shared_in == "row" else "layer"
            self._solver = Solver(
                taken.solver, taken.solver_iterations, within, taken.kept_of, taken.solver_target, taken.solver_refit
            )
            self._solver.check(self.who, units)
        values: Values = StoredValues()
        if taken.base is not None:
            values = Deltas(Checkpoint(taken.base, f"{self.who}: base"), units)
        self._prepared = PruningState(units, values, context)
        self.model = model
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
        count = round(self.options.target_sparsity * sum(tensor.numel() for tensor in weight_tensors))
        importance = energy_lost(weight_tensors, count) * MIB / (count * itemsize) if count else 0.0
        self.layer_importance[layer_name] = importance
        return importance

    def calculate_sparsity_schedule(self, iteration: int) -> float:
        """The share of zeros due after step `iteration` (from 0): the target itself after the last, and at
        `num_iterations`, where the specification counts to."""
        options = self.options
        if iteration == options.num_iterations:
            return float(options.target_sparsity)
        return options.target_sparsity * share(options.schedule, iteration, options.num_iterations)

    @torch.no_grad()
    def apply_pruning_step(self) -> dict[str, float]:
        """Prune to what the schedule asks for now; returns the share of zeros of every layer.

        Raises:
            UserError: nothing was prepared, or all steps are done.
        """
        state, taken = self._state, self._taken
        if self.current_iteration >= taken.num_iterations:
            raise UserError(
                f"{self.who}: all {taken.num_iterations} pruning steps are done. Call prepare(model) to start"
                " anew, or give num_iterations the number of steps there are to be."
            )
        target = self.calculate_sparsity_schedule(self.current_iteration)
        assert self.model is not None
        if taken.asking_for_data():
            state.calibrate(self.model, taken.score, taken.score == "wanda" or taken.allocation in MEASURED)
        counts = budgets(state, self.model, target, taken.shared_in, taken.allocation, taken.score, taken.floor)
        if self._solver is not None:
            run = self._solver.run
            self._solved = run(
                self, self.model, state.units, counts, state.context, lambda unit: self._mask(unit, counts)
            )
        else:
            done = self.current_iteration * len(state.units)
            for unit in state.units:
                with naming(self, unit):
                    self._mask(unit, counts)
                done += 1
                state.context.progress(done, len(state.units) * taken.num_iterations, "layers")
        state.forget_gradients()
        self.current_iteration += 1
        self.current_sparsity, by_layer = state.sparsity()
        return by_layer

    def _mask(self, unit: Unit, counts: Mapping[str, int]) -> None:
        """Zero the values of least score, in the pattern where there is one."""
        state, taken = self._state, self._taken
        if taken.kept_of is None:
            state.prune(unit, state.masks([unit], taken.score, taken.shared_in, counts[unit.name]))
        else:
            n, m = taken.kept_of
            state.prune(unit, (~pattern_mask(score, n, m) for score in state.scores([unit], taken.score)))

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
        elif self._taken.rescale == "least_squares":
            assert self.model is not None
            self.scale_factors = by_least_squares(state, self.model)
        elif self._taken.rescale == "dare":
            self.scale_factors = by_share_kept(state)
        state.note_counts()

    @torch.no_grad()
    def _touched(self) -> dict[str, dict[str, Any]]:
        touched = {}
        for unit in self._state.units:
            touched[unit.name] = self._state.facts(unit) | {"importance": self.layer_importance[unit.name]}
            solved = self._solved.get(unit.name, {})
            notes = [facts["note"] for facts in (touched[unit.name], solved) if "note" in facts]
            touched[unit.name] |= solved | ({"note": "; ".join(notes)} if notes else {})
            if unit.name in self.scale_factors:
                touched[unit.name]["scale"] = self.scale_factors[unit.name]
        return touched

    def _facts(self) -> dict[str, Any]:
        taken = self._taken
        return {
            "target_sparsity": float(taken.target_sparsity),
            "sparsity": self.current_sparsity,
            "steps": [self.calculate_sparsity_schedule(step) for step in range(taken.num_iterations)],
            "scope": taken.shared_in,
            "score": taken.score,
            "allocation": taken.allocation,
            "rescale": taken.rescale,
            "solver": taken.solver,
            "of": "deltas" if taken.base is not None else "stored values",
        }
