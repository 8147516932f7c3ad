"""Define the options of a pruning stage, and check them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from rcc.errors import Problems, UserError, is_number
from rcc.ops.curves import CURVES
from rcc.stages.dare.plan import MOST
from rcc.stages.dare.scores import GRADIENTS
from rcc.stages.dare.solve import SOLVERS, TARGETS
from rcc.stages.options import AUTO, StageOptions

SCOPES = ("row", "layer", "tower", "global")
SCORES = ("magnitude", "random", "wanda", "taylor", "fisher")
ALLOCATIONS = ("uniform", "importance", "owl", "sensitivity")
MEASURED = ("owl", "sensitivity")
"""The allocations that look at calibration data."""
RESCALES = ("none", "least_squares", "dare")
_OF_A_SOLVER = ("solver_iterations", "solver_target", "solver_refit")


@dataclass(frozen=True)
class DAREOptions(StageOptions):
    """How a pruning stage chooses what goes, and what becomes of the rest.

    Attributes:
        target_sparsity: share of the stored values (of S, or of U and V together) that are zero afterwards,
            in [0, 0.99]. Values that are zero already count, and are the first to be taken.
        num_iterations: pruning steps towards the target; the last one reaches it exactly.
        schedule: how much of the target each step asks for, a name of `rcc.ops.curves.CURVES`.
        scope: what shares one budget: every 'layer' by itself, a 'tower', or the whole model ('global'). 'row' is
            a layer whose rows all give up the same share. None: 'row' for score='wanda', else 'layer'.
        score: 'magnitude' removes the smallest, 'random' any, 'wanda' those of least magnitude × norm of the
            input on the calibration data, 'taylor' and 'fisher' those whose removal changes the model's own loss least.
        allocation: 'uniform' gives each pool the same share; 'importance' gives each what makes the sum of
            the pools' relative output errors least, with the same total; 'owl' keeps more of layers with outliers;
            'sensitivity' weighs each layer's error by what it does to the model's outputs, see `budgets`. 'auto':
            'sensitivity' where a solver runs on calibration data and each layer may have a budget of its own, else
            'uniform'.
        rescale: what is done to the survivors. 'none'; 'least_squares' fits one factor per output channel to
            the original weights' outputs on the calibration data; 'dare' multiplies by 1/(1 − share removed),
            which is right for random dropping and wrong after magnitude pruning.
        base: a checkpoint directory or .safetensors file: true DARE, the *deltas* to it are dropped at random
            and the rest rescaled. Takes score='random' and rescale='dare'.
        solver: 'none' leaves survivors as they are; 'admm' and 'obs' (SparseGPT) choose and adjust them so that every
            layer gives the dense model's outputs on the inputs it really sees, and settle its bias. 'auto': 'admm'
            where calibration data is there and nothing was asked that a solver decides itself (a score, a rescaling,
            a base, several steps), else 'none'.
        solver_iterations: of ADMM.
        solver_target: what a solved layer is to give on the inputs it sees: 'dense', the dense model's outputs; 'own',
            those of its weight as it was, as SparseGPT has it: half the calibration, and errors add up.
        solver_refit: iterations of least squares on the values that the solver kept; 0 leaves them as they are.
        pattern: 'n:m' keeps n of every m consecutive inputs, as '2:4'; with a solver, at target 1 − n/m.
        floor: share of its values that every layer keeps where layers compete for a budget.
    """

    method: ClassVar[str] = "dare"

    target_sparsity: float = 0.9
    num_iterations: int = 1
    schedule: str = "polynomial"
    _: KW_ONLY
    scope: str | None = None
    score: str = "magnitude"
    allocation: str = AUTO
    rescale: str = "none"
    base: str | Path | None = None
    solver: str = AUTO
    solver_iterations: int = 15
    solver_target: str = "dense"
    solver_refit: int = 6
    pattern: str | None = None
    floor: float = 0.01

    def check(self, problems: Problems) -> None:
        problems.within("target_sparsity", self.target_sparsity, f"[0, {MOST}]")
        problems.whole("num_iterations", self.num_iterations, 1)
        problems.choice("schedule", self.schedule, CURVES)
        if self.scope is not None:
            problems.choice("scope", self.scope, SCOPES)
        problems.choice("score", self.score, SCORES)
        problems.choice("allocation", self.allocation, (AUTO, *ALLOCATIONS))
        problems.choice("rescale", self.rescale, RESCALES)
        if self.base is not None:
            problems.path("base", self.base)
        problems.choice("solver", self.solver, (AUTO, *SOLVERS))
        problems.whole("solver_iterations", self.solver_iterations, 1)
        problems.choice("solver_target", self.solver_target, TARGETS)
        problems.whole("solver_refit", self.solver_refit, 0)
        problems.within("floor", self.floor, "[0, 1)")
        # Conflicts are looked for as with calibration data; what 'auto' is without is checked once that is known.
        solver, allocation = self._taken(calibrated=True)
        self._check_budgets(problems, allocation)
        self._check_solver(problems, solver)
        self._check_pattern(problems, solver, allocation)
        if self.base is not None:
            problems.check(
                (self.score, self.rescale) == ("random", "dare"),
                "with a base, deltas are dropped at random and the rest rescaled by 1/(1 − share dropped): set"
                f" score=random and rescale=dare (found score={self.score}, rescale={self.rescale}), or take no base.",
            )
        if not problems.found:  # what has an effect can be told of sound values alone
            self._check_unused(problems, solver, allocation)

    def resolved(self, calibrated: bool) -> Self:
        if AUTO not in (self.solver, self.allocation):
            return self
        solver, allocation = self._taken(calibrated)
        return replace(self, solver=solver, allocation=allocation)

    def _taken(self, calibrated: bool) -> tuple[str, str]:
        """The solver and the allocation, with 'auto' decided."""
        solver, allocation = self.solver, self.allocation
        if solver == AUTO:
            decided_itself = self.score != "magnitude" or self.rescale != "none" or self.base is not None
            solver = "admm" if calibrated and not decided_itself and self.num_iterations == 1 else "none"
        if allocation == AUTO:
            apart = self.scope in (None, "row", "layer") and self.pattern is None
            allocation = "sensitivity" if calibrated and apart and solver != "none" else "uniform"
        return solver, allocation

    @property
    def needs_calibration(self) -> bool:
        try:
            return bool(self.resolved(calibrated=False).asking_for_data())
        except UserError:  # what 'auto' is without data does not go with the rest
            return True

    @property
    def takes_gradients(self) -> bool:
        return self.score in GRADIENTS or self.allocation == "sensitivity"

    def asking_for_data(self) -> str:
        """The options for which calibration data is needed; empty where none is."""
        asking = {
            f"solver={self.solver}": self.solver not in (AUTO, "none"),
            "rescale=least_squares": self.rescale == "least_squares",
            f"score={self.score}": self.score in ("wanda", *GRADIENTS),
            f"allocation={self.allocation}": self.allocation in MEASURED,
        }
        return ", ".join(option for option, needs in asking.items() if needs)

    @property
    def shared_in(self) -> str:
        """The scope asked for, or else that of the score: a row for 'wanda', as published, a layer for the others."""
        return self.scope or ("row" if self.score == "wanda" else "layer")

    @property
    def kept_of(self) -> tuple[int, int] | None:
        """(n, m) of the pattern n:m, 0 < n < m; None without one.

        Raises:
            ValueError: it is none.
        """
        if self.pattern is None:
            return None
        n, m = (int(part) for part in str(self.pattern).split(":"))
        if not 0 < n < m:
            raise ValueError(self.pattern)
        return n, m

    def _competes(self, allocation: str) -> bool:
        """Whether layers compete for values, so that the floor matters."""
        return allocation != "uniform" or self.scope in ("tower", "global")

    def _check_budgets(self, problems: Problems, allocation: str) -> None:
        target, floor, scope = self.target_sparsity, self.floor, self.scope
        if is_number(floor) and is_number(target):
            problems.check(
                not self._competes(allocation) or target <= 1 - floor + 1e-12,
                f"target_sparsity is {target} and floor={floor} keeps more of every layer: lower one of them.",
            )
        if allocation == "importance":
            problems.check(
                scope != "global",
                "allocation=importance shares a budget among layers or towers, and scope=global has but one:"
                " take scope=layer, or allocation=uniform.",
            )
            problems.check(self.score == "magnitude", "allocation=importance ranks magnitudes: take score=magnitude.")
        if allocation in MEASURED:
            problems.check(
                scope in (None, "row", "layer"),
                f"allocation={allocation} shares one budget among layers: take scope=layer or row (found {scope}).",
            )

    def _check_solver(self, problems: Problems, solver: str) -> None:
        if solver == "none":
            return
        problems.check(
            self.score == "magnitude" and self.rescale == "none" and self.base is None,
            f"solver={solver} ranks and adjusts the values itself: take solver=none, or leave score=magnitude,"
            f" rescale=none and no base (found score={self.score}, rescale={self.rescale}, base={self.base}).",
        )
        problems.check(
            self.num_iterations == 1, f"solver={solver} shrinks its mask within one step: leave num_iterations=1."
        )

    def _check_pattern(self, problems: Problems, solver: str, allocation: str) -> None:
        if self.pattern is None:
            return
        try:
            n, m = self.kept_of or (0, 1)
        except ValueError:
            problems.check(False, f"pattern is {self.pattern!r}; it reads as '2:4', two of every four inputs kept.")
            return
        problems.check(
            not is_number(self.target_sparsity) or abs(self.target_sparsity - (1 - n / m)) < 1e-6,
            f"pattern={self.pattern} makes {1 - n / m:.4g} of the values zero: set target_sparsity={1 - n / m:.4g}"
            f" (found {self.target_sparsity}).",
        )
        problems.check(
            allocation == "uniform" and self.scope in (None, "layer") and solver != "none",
            f"pattern={self.pattern} leaves no budget to share: it goes with solver=admm or obs, allocation=uniform and"
            f" scope=layer (found solver={solver}, allocation={allocation}, scope={self.scope}).",
        )

    def _check_unused(self, problems: Problems, solver: str, allocation: str) -> None:
        unused: Sequence[str] = ("solver_iterations",) if solver == "obs" else ()
        self.unused(problems, unused, "with solver=obs, which takes one pass", "take solver=admm")
        if solver == "none":
            self.unused(problems, _OF_A_SOLVER, "with solver=none", "take solver=admm or obs")
        if self.num_iterations == 1:
            self.unused(problems, ("schedule",), "in one step", "set num_iterations to 2 or more")
        if not self._competes(allocation):
            self.unused(
                problems,
                ("floor",),
                f"with allocation={allocation}, where every {self.shared_in} gives up the same share",
                "take another allocation, or scope=tower or global",
            )
