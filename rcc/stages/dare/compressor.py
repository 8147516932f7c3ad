"""DARE: pruning to an exact count of zeros, over whatever is stored, in one step or along a schedule.

The maths, its sources and where it departs from the specification: docs/method/dare.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rcc.calibration.checkpoints import Checkpoint
from rcc.errors import UserError
from rcc.layers.model import Model
from rcc.layers.selection import Selection, Skipped
from rcc.layers.units import Unit
from rcc.ops.allocate import energy_lost
from rcc.ops.curves import share
from rcc.ops.patterns import pattern_mask
from rcc.stages.base import StageContext, StageReport, UnitPlan, naming, planned
from rcc.stages.dare.budgets import budgets
from rcc.stages.dare.options import check_options, is_number, parse_pattern, scope_for
from rcc.stages.dare.plan import plan_pruning
from rcc.stages.dare.rescale import by_least_squares, by_number, by_share_kept
from rcc.stages.dare.scores import GRADIENTS
from rcc.stages.dare.solve import Solver
from rcc.stages.dare.state import PruningState
from rcc.stages.dare.values import Deltas, StoredValues, Values
from rcc.stages.dare.views import PruningViews

MIB = 2**20


class DARECompressor(PruningViews):
    """Sets the least important values to zero until exactly `target_sparsity` of what is stored is zero.

    Args:
        target_sparsity: share of the stored values (of S, or of U and V together) that are zero afterwards,
            in [0, 0.99]. Values that are zero already count, and are the first to be taken.
        num_iterations: pruning steps towards the target; the last one reaches it exactly.
        schedule: how much of the target each step asks for, a name of `rcc.ops.curves.CURVES`.
        scope: what shares one budget: every 'layer' by itself, a 'tower', or the whole model ('global'). 'row' is
            a layer whose rows all give up the same share. None: 'row' for score='wanda', else 'layer'.
        score: 'magnitude' removes the smallest, 'random' any, 'wanda' those of least magnitude × norm of the
            input on the calibration data, 'taylor' and 'fisher' those whose loss the model's own loss feels least.
        allocation: 'uniform' gives each pool the same share; 'importance' gives each what makes the sum of
            the pools' relative output errors least, with the same total; 'owl' keeps more of layers with outliers;
            'sensitivity' weighs each layer's error by what it does to the model's outputs. See `pruning_budgets`.
        rescale: what is done to the survivors. 'none'; 'least_squares' fits one factor per output channel to
            the original weights' outputs on the calibration data; 'dare' multiplies by 1/(1 − share removed),
            which is right for random dropping and wrong after magnitude pruning.
        solver: 'none' leaves survivors as they are; 'admm' and 'obs' (SparseGPT) choose and adjust them so that every
            layer gives the dense model's outputs on the inputs it really sees, and settle its bias.
        solver_iterations: of ADMM.
        solver_target: what a solved layer is to give on the inputs it sees: 'dense', the dense model's outputs; 'own',
            those of its weight as it was, as SparseGPT has it: half the calibration, and errors add up.
        solver_refit: iterations of least squares on the values that the solver kept; 0 leaves them as they are.
        pattern: 'n:m' keeps n of every m consecutive inputs, as '2:4'; with a solver, at target 1 − n/m.
        floor: share of its values that every layer keeps where layers compete for a budget.
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
        solver: str = "none",
        solver_iterations: int = 15,
        solver_target: str = "dense",
        solver_refit: int = 6,
        pattern: str | None = None,
        floor: float = 0.01,
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
        self.solver, self.solver_iterations, self.solver_target = solver, solver_iterations, solver_target
        self.floor = floor
        self.pattern = parse_pattern(pattern)
        within = "row" if self.scope == "row" else "layer"
        self._solver: Solver | None = None
        if solver != "none":
            self._solver = Solver(solver, solver_iterations, within, self.pattern, solver_target, solver_refit)
        self.needs_calibration = bool(self._asking_for_data())
        self.selection = Selection(include, exclude, roles, towers)

        self.layer_importance: dict[str, float] = {}
        self.scale_factors: dict[str, float] = {}
        self._solved: dict[str, dict[str, Any]] = {}

    @property
    def strength(self) -> float | None:
        return None if self.pattern else self.target_sparsity

    def at(self, strength: float) -> Self:
        return type(self)(**{**self._options, "target_sparsity": strength}).labelled(self.label)

    def plan(self, units: Sequence[UnitPlan], itemsize: int) -> list[UnitPlan]:
        if self.base is not None:
            return [planned(unit, "deltas are dropped: the weights stay dense and save no bytes") for unit in units]
        return plan_pruning(units, self.target_sparsity, self.scope, self.allocation, itemsize)

    def apply(self, model: Model, context: StageContext) -> StageReport:
        skipped = self.prepare(model, context)
        for _ in range(self.num_iterations):
            self.apply_pruning_step()
        self.rescale_weights()
        return StageReport(touched=self._touched(), skipped=skipped, facts=self._facts())

    @torch.no_grad()
    def prepare(self, model: Model, context: StageContext | None = None) -> list[Skipped]:
        """Choose the units of `model` and stand before the first step; returns the units left alone.

        Raises:
            UserError: weights that are not finite, tensors missing from `base`, no calibration data for an option
                that needs it, or layers that the solver or the pattern does not fit. No weight has been touched then.
        """
        context = context or StageContext()
        units, skipped = self.choose(model)
        asking = self._asking_for_data()
        if asking and not context.calibration:
            raise UserError(
                f"{self.who}: {asking} needs calibration data, and there is none. Choose data with a calibration"
                " split (from Python: StageContext(calibration=batches)), or leave that option at its default."
            )
        if self._solver is not None:
            self._solver.check(self.who, units)
        values: Values = StoredValues()
        if self.base is not None:
            values = Deltas(Checkpoint(self.base, f"{self.who}: base"), units)
        self._prepared = PruningState(units, values, context)
        self.model = model
        self.current_iteration = 0
        self.layer_importance, self.scale_factors, self._solved = {}, {}, {}
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
        """The share of zeros due after step `iteration` (from 0): the target itself after the last, and at
        `num_iterations`, where the specification counts to."""
        if iteration == self.num_iterations:
            return self.target_sparsity
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
        assert self.model is not None
        if self.needs_calibration:
            inputs = self.score == "wanda" or self.allocation in ("owl", "sensitivity")
            state.calibrate(self.model, self.score, inputs)
        counts = budgets(state, self.model, target, self.scope, self.allocation, self.score, self.floor)
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
                state.context.progress(done, len(state.units) * self.num_iterations, "layers")
        state.forget_gradients()
        self.current_iteration += 1
        self.current_sparsity, by_layer = state.sparsity()
        return by_layer

    def _mask(self, unit: Unit, counts: Mapping[str, int]) -> None:
        """Zero the values of least score, in the pattern where there is one."""
        state = self._state
        if self.pattern is None:
            state.prune(unit, state.masks([unit], self.score, self.scope, counts[unit.name]))
        else:
            n, m = self.pattern
            state.prune(unit, (~pattern_mask(score, n, m) for score in state.scores([unit], self.score)))

    def _asking_for_data(self) -> str:
        """The option for which calibration data is needed; empty where none is."""
        asking = {
            f"solver={self.solver}": self.solver != "none",
            "rescale=least_squares": self.rescale == "least_squares",
            f"score={self.score}": self.score in ("wanda", *GRADIENTS),
            f"allocation={self.allocation}": self.allocation in ("owl", "sensitivity"),
        }
        return ", ".join(option for option, needs in asking.items() if needs)

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
        return {
            "target_sparsity": self.target_sparsity,
            "sparsity": self.current_sparsity,
            "steps": [self.calculate_sparsity_schedule(step) for step in range(self.num_iterations)],
            "scope": self.scope,
            "score": self.score,
            "allocation": self.allocation,
            "rescale": self.rescale,
            "solver": self.solver,
            "of": "deltas" if self.base is not None else "stored values",
        }
