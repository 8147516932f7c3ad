"""Search the parameters of any function from Python, as `-m` searches the options of runs: the same study, the same
proposals, resumed from the same kind of folder."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.errors import Problems, UserError, is_number
from rcc.sweeps.objectives import DIRECTIONS
from rcc.sweeps.proposal import check_sampler, propose
from rcc.sweeps.space import Dimension, Value, in_order
from rcc.sweeps.study import MESSAGE, SweepStudy
from rcc.sweeps.trials import claim, exclusive

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

Parameters = dict[str, Value]
SECONDS = "seconds"


class BayesianOptimizer:
    """Searches what a function makes of its parameters, and remembers every trial.

    >>> def score(params):
    ...     return retention(params["sparsity"]) if fits(params) else 0.0
    >>> optimizer = BayesianOptimizer(score, {"sparsity": (0.2, 0.9), "rank": [4, 8, 16]}, directory="search")
    >>> optimizer.optimize(n_trials=30)["best_params"]

    Trial k is a function of `seed`, of k and of the results before it. With a `directory` a search that was stopped
    goes on there: a trial that was not through is done again with its parameters, and several processes share one
    study, each with trials of its own.

    Args:
        objective_function: takes the parameters by name, returns one finite number.
        search_space: by name: (low, high) of an interval with both its ends, of whole numbers where both are; a list of
            values; or a mapping of low, high and log.
        direction: 'maximize' or 'minimize'.
        dependencies: by name, whether a trial with these parameters, those named earlier in `search_space`, has a place
            for one; it is neither searched nor given where it has not.
        sampler: see `rcc.sweeps.proposal.NAMES`; `options` are those of its class in Optuna.
        seed: of the search, 0 or more.
        directory: where the study is kept; None keeps it as long as the optimizer lives.

    Raises:
        UserError: something of the search cannot be, or the directory holds another one.
    """

    def __init__(
        self,
        objective_function: Callable[[Parameters], float],
        search_space: Mapping[str, Any],
        direction: str = "maximize",
        *,
        dependencies: Mapping[str, Callable[[Parameters], bool]] | None = None,
        sampler: str = "tpe",
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        directory: Path | str | None = None,
    ) -> None:
        problems = Problems("BayesianOptimizer")
        problems.check(callable(objective_function), f"objective_function is no function: {objective_function!r}.")
        problems.choice("direction", direction, DIRECTIONS.values())
        problems.whole("seed", seed, 0)
        self.dependencies = dict(dependencies or {})
        for name in self.dependencies:
            problems.choice("name of a dependency", name, search_space)
        problems.check(bool(search_space), "search_space is empty: name one parameter or more.")
        with problems.collecting():
            check_sampler(sampler, options or {})
        dimensions = [_dimension(name, given, problems) for name, given in search_space.items()]
        problems.done()
        self.objective_function, self.search_space, self.direction = objective_function, dict(search_space), direction
        self._dimensions = [each for each in dimensions if each is not None]
        self._sampler, self._options, self._seed = sampler, dict(options or {}), seed
        self._temporary = tempfile.TemporaryDirectory(prefix="rcc-search-") if directory is None else None
        self._folder = Path(self._temporary.name if self._temporary else directory or "")
        with exclusive(self._folder):
            self._study = SweepStudy(self._folder, "", [direction], self._dimensions)
            self._study.trials()  # of another search are refused before anything is done

    @property
    def optuna_study(self) -> Study:
        """The study, for Optuna's own plots and tables; it is not to be written to."""
        return self._study.study

    @property
    def trial_results(self) -> list[dict[str, Any]]:
        """Every trial by number: parameters, value (None where it has none), state, seconds, what went wrong."""
        with exclusive(self._folder):
            return [_result(trial) for trial in self._study.trials()]

    @property
    def best_params(self) -> Parameters:
        """The parameters of the best trial, the earliest of equal ones.

        Raises:
            UserError: no trial is through.
        """
        return dict(self._best()["params"])

    @property
    def best_value(self) -> float:
        """The value of the best trial.

        Raises:
            UserError: no trial is through.
        """
        return float(self._best()["value"])

    def suggest_parameters(self, trial: Trial) -> Parameters:
        """The parameters that an Optuna trial of anybody's study suggests within this space."""
        point: Parameters = {}
        for each in in_order(self._dimensions):
            if self._has_place(each, point):
                point[each.option] = trial._suggest(each.option, each.distribution)
        return point

    def optimize(self, n_trials: int = 100, timeout: float | None = 3600) -> dict[str, Any]:
        """Search until there are `n_trials` in all, earlier ones of the directory among them.

        Args:
            timeout: seconds after which no further trial is begun; None: no limit.

        Returns:
            best_params and best_value (None where no trial is through), trial_results, and the seconds it took.

        Raises:
            UserError: the function returned no finite number; the trial counts as failed.
            Exception: whatever the function raises, after its trial was noted as failed.
        """
        problems = Problems("optimize")
        problems.whole("n_trials", n_trials, 1)
        if timeout is not None:
            problems.within("timeout", timeout, "(0, inf)")
        problems.done()
        started = time.monotonic()
        while timeout is None or time.monotonic() - started < timeout:
            begun = self._begin(n_trials)
            if begun is None:
                break
            number, parameters, held = begun
            try:
                self._do(number, parameters)
            finally:
                held.release()
        done = [each for each in self.trial_results if each["value"] is not None]
        best = self._best() if done else {"params": None, "value": None}
        return {
            "best_params": best["params"],
            "best_value": best["value"],
            "trial_results": self.trial_results,
            "seconds": time.monotonic() - started,
        }

    def _begin(self, n_trials: int) -> tuple[int, Parameters, FileLock] | None:
        """A trial that nobody works on, or a new one, claimed; None where there are as many as asked."""
        with exclusive(self._folder):
            found = self._study.trials()
            for trial in found:
                if not trial.state.is_finished() and (held := claim(self._folder, trial.number)) is not None:
                    return trial.number, dict(trial.params), held
            if len(found) >= n_trials:
                return None
            proposed = propose(
                self._dimensions,
                self._sampler,
                self._options,
                self._seed,
                len(found),
                [self.direction],
                [trial for trial in found if trial.state.name != "FAIL"],
                self._has_place,
            )
            if proposed is None:
                return None
            number = self._study.add(proposed)
            held = claim(self._folder, number)
            assert held is not None, "nobody else can know of it"
            return number, dict(proposed.params), held

    def _do(self, number: int, parameters: Parameters) -> None:
        started = time.monotonic()
        try:
            value = self.objective_function(dict(parameters))
            if not is_number(value) or not math.isfinite(value):
                raise UserError(
                    f"trial {number} of {parameters} came to {value!r}: an objective returns one finite number."
                )
        except Exception as error:
            with exclusive(self._folder):
                self._study.fail(number, f"{type(error).__name__}: {error}", 1)
            raise
        with exclusive(self._folder):
            self._study.tell(number, [float(value)], {}, {SECONDS: time.monotonic() - started})

    def _has_place(self, dimension: Dimension, point: Mapping[str, Value]) -> bool:
        asks = self.dependencies.get(dimension.option)
        return asks is None or bool(asks(dict(point)))

    def _best(self) -> dict[str, Any]:
        done = [each for each in self.trial_results if each["value"] is not None]
        if not done:
            raise UserError("no trial is through: call optimize(n_trials) first.")
        sign = 1 if self.direction == DIRECTIONS["max"] else -1
        return max(done, key=lambda each: sign * each["value"])


def _dimension(name: str, given: Any, problems: Problems) -> Dimension | None:
    """One parameter of a search space; None, with a problem noted, where `given` describes none."""
    ends: tuple[Any, Any] | None = None
    log = False
    if isinstance(given, Mapping):
        if set(given) <= {"low", "high", "log"} and {"low", "high"} <= set(given):
            ends, log = (given["low"], given["high"]), given.get("log", False)
    elif isinstance(given, tuple):
        ends = given if len(given) == 2 else None
    elif isinstance(given, Sequence) and not isinstance(given, str):
        plain = all(each is None or isinstance(each, str | int | float | bool) for each in given)
        if problems.check(bool(given) and plain, f"{name}={given!r} lists no words and numbers to choose from."):
            return Dimension(name, name, tuple(given))
        return None
    if ends is None or not isinstance(log, bool) or not all(map(is_number, ends)):
        problems.check(
            False, f"{name}={given!r} is no range; give (low, high), a list of values, or {{low: …, high: …, log: …}}."
        )
        return None
    low, high = ends
    finite = math.isfinite(low) and math.isfinite(high)
    problems.check(finite and low <= high, f"{name}={given!r}: low is above high, or one of them is not finite.")
    problems.check(not log or low > 0, f"{name}={given!r}: what is searched by its logarithm is above 0.")
    return Dimension(name, name, low=low, high=high, log=log)


def _result(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": dict(trial.params),
        "value": trial.values[0] if trial.values else None,
        "state": trial.state.name.lower(),
        "seconds": trial.user_attrs.get(SECONDS),
        "problem": trial.user_attrs.get(MESSAGE, ""),
    }
