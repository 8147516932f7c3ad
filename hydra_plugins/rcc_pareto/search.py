"""Search with Optuna: ask a sampler for each trial's point, run it, tell the study what it came to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from hydra_plugins.rcc_pareto.resumable import ResumableSweeper, Trial, code_versions
from rcc.composing.earlier import points_of
from rcc.composing.outcomes import Outcome
from rcc.composing.space import dimensions
from rcc.composing.sweep_options import has
from rcc.errors import Problems, UserError
from rcc.sweeps import deaths, trials
from rcc.sweeps.early_stopping import NONE, check_early_stopping, learnt_from
from rcc.sweeps.objectives import read_constraints, read_objectives, values_of, violations
from rcc.sweeps.proposal import GRID, check_sampler, propose
from rcc.sweeps.record import SEARCH, SweepRecord
from rcc.sweeps.space import Dimension, Value, every_point, in_order
from rcc.sweeps.storage import alone, keep_password
from rcc.sweeps.study import CODE, MESSAGE, NAME, PLACE, RETRY, SweepStudy

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class ParetoSweeper(ResumableSweeper):
    """A resumable search; see conf/hydra/sweeper/pareto.yaml for its options."""

    def __init__(
        self,
        params: Any = None,
        objectives: Sequence[str] = ("retention:max", "bytes:min"),
        constraints: Sequence[str] = (),
        sampler: str = "tpe",
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        first: Sequence[Mapping[str, Value] | str] = (),
        baselines: bool = False,
        early_stopping: str = NONE,
        n_trials: int = 12,
        retry: bool = False,
        storage: str | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(params, retry, workers)
        problems = Problems()
        problems.whole("n_trials", n_trials, 1)
        problems.whole("seed", seed, 0)
        problems.flag("baselines", baselines)
        problems.check(
            not (baselines is True and sampler == GRID),
            "baselines=true has no effect with sampler=grid, which tries every combination. Leave it out.",
        )
        self.options: dict[str, Any] = _plain(options or {})
        with problems.collecting():
            self.objectives = read_objectives(_plain(objectives))
        with problems.collecting():
            self.constraints = read_constraints(_plain(constraints))
        with problems.collecting():
            check_sampler(sampler, self.options)
        problems.done()
        check_early_stopping(early_stopping, self.objectives)
        self.early_stopping = early_stopping
        self.sampler, self.seed, self.n_trials = sampler, seed, n_trials
        self.first, self.baselines = tuple(_plain(first)), baselines
        self.url = keep_password(storage or "")

    def asked(self, fixed: tuple[str, ...], space: tuple[str, ...]) -> SweepRecord:
        if not space:
            raise UserError(
                "nothing is searched: no argument has several values. Give some, as in"
                " 'stage.dare.target_sparsity=interval(0.2,0.9)', or take experiment=pareto."
            )
        if "dry_run=true" in fixed:
            raise UserError(
                "dry_run=true plans one run, and a search chooses each by the results of those before it. Plan one with"
                " options of your choice, as rcc-run stage=dare+quant dry_run=true."
            )
        self.first = self._points_first(dimensions(space, self.context.config_loader), fixed)
        return SweepRecord(
            SEARCH,
            fixed,
            space,
            tuple(f"{each.name}:{each.way}" for each in self.objectives),
            tuple(f"{each.name}{each.sign}{each.bound:g}" for each in self.constraints),
            self.sampler,
            self.options,
            self.seed,
            self.first,
            self.early_stopping,
            self.n_trials,
            self.url,
            f"rcc-{self.folder.resolve().name}-{secrets.token_hex(4)}" if self.url else NAME,
            versions=code_versions(),
        )

    def begin(self) -> None:
        self.space = dimensions(self.record.space, self.context.config_loader)
        self.directions = [objective.direction for objective in self.objectives]
        begun = any(path.name.isdecimal() for path in self.folder.iterdir())
        self.study = SweepStudy(self.folder, self.url, self.directions, self.space, self.record.study, begun)
        if self.url:
            self.study.describe(replace(self.record, n_trials=self.n_trials))
            print(f"study: {self.record.study} in {self.url}", flush=True)
        self._places: dict[tuple[str, ...], dict[str, bool]] = {}
        done = sum(trial.state.is_finished() and RETRY not in trial.user_attrs for trial in self.study.trials())
        if done > self.n_trials:
            raise UserError(
                f"n_trials is {self.n_trials}, and {self.folder} holds {done} trials that are done; give more, or leave"
                " it out."
            )

    @property
    def total(self) -> int:
        return self.n_trials

    def choose(self) -> tuple[Trial, Any] | None:
        found = self.study.trials()
        for trial in found:
            mine = trial.user_attrs.get(PLACE, "") == self.record.place
            if mine and not trial.state.is_finished() and (chosen := self._left(trial)) is not None:
                return chosen
        found = self.study.trials()  # one that finished without a word was told just now
        retried = {trial.user_attrs.get(RETRY) for trial in found}
        for trial in found if self.retry else ():
            if trial.state.name == "FAIL" and trial.number not in retried and RETRY not in trial.user_attrs:
                return self._begun(self._again(trial), trial.number)
        if sum(RETRY not in trial.user_attrs for trial in found) >= self.n_trials:
            return None
        proposed = propose(
            self.space,
            self.sampler,
            self.options,
            self.seed,
            len(found),
            self.directions,
            _history(found),
            self._has_place,
            self.first,
        )
        return None if proposed is None else self._begun(proposed)

    def note(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.error:
            self.study.fail(trial.number, outcome.error, outcome.exit_code)
            return
        if outcome.abandoned:
            self.study.abandon(trial.number, outcome.abandoned)
            return
        try:
            values = values_of(outcome.numbers, self.objectives, self.constraints)
        except UserError as error:
            self.study.fail(trial.number, str(error), error.exit_code)
            raise
        violated = violations(outcome.numbers, self.constraints, bool(outcome.missed), outcome.target)
        noted = {"numbers": outcome.numbers, "missed": outcome.missed, "target_bytes": outcome.target}
        self.study.tell(trial.number, values, violated, noted)

    def outcomes(self) -> list[Outcome]:
        found = self.study.trials()
        retried = {trial.user_attrs.get(RETRY) for trial in found}
        outcomes = []
        for trial in found:
            if trial.number in retried:
                continue
            numbers, missed = trial.user_attrs.get("numbers", {}), str(trial.user_attrs.get("missed", ""))
            result = trials.Result(numbers, missed, trial.user_attrs.get("target_bytes")) if numbers else None
            status = trials.FINISHED if trial.state.is_finished() else trials.LIVE
            outcome = self.read(trial.number, self._overrides(trial), trials.State(status, result))
            outcome.violated = tuple(name for name, excess in trial.constraints.items() if excess > 0 and "=" in name)
            if trial.state.name == "FAIL":
                outcome.error = str(trial.user_attrs.get(MESSAGE, "failed"))
                outcome.exit_code = int(trial.user_attrs.get(CODE, 1))
            if trial.state.name == "PRUNED":
                outcome.abandoned = str(trial.user_attrs.get(MESSAGE, "early"))
            outcomes.append(outcome)
        return outcomes

    def _left(self, trial: FrozenTrial) -> tuple[Trial, Any] | None:
        """A trial that was begun, claimed, unless another process has it; one that ended without a word is told."""
        claim = trials.claim(self.folder, trial.number)
        if claim is None:
            return None
        left_in = self.place(trial.number)
        state = trials.state_of(left_in)
        left = Trial(trial.number, self._overrides(trial), state)
        given_up = deaths.problem(left_in) if state.status == trials.STOPPED else ""
        if state.status in (trials.NEW, trials.STOPPED) and not given_up:
            return left, claim
        if state.status == trials.LIVE:  # somebody resumes it alone
            claim.release()
            return None
        outcome = self.read(trial.number, left.overrides, state)
        if state.status == trials.FAILED or given_up:
            outcome.error, outcome.exit_code = given_up or "see its run.json", 1
        self.note(left, outcome)
        claim.release()
        return None

    def _begun(self, trial: FrozenTrial, retry_of: int | None = None) -> tuple[Trial, Any]:
        number = self.study.add(trial, retry_of, self.record.place)
        claim = trials.claim(self.folder, number)
        assert claim is not None, "nobody else can know of it"
        return Trial(number, self._overrides(trial), trials.state_of(self.place(number))), claim

    def _again(self, trial: FrozenTrial) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        return create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)

    def _overrides(self, trial: FrozenTrial) -> tuple[str, ...]:
        point = [each.setting(trial.params[each.option]) for each in self.space if each.option in trial.params]
        return (*point, *self.fixed)

    def _has_place(self, dimension: Dimension, point: Mapping[str, Value]) -> bool:
        """Whether a trial with these choices has the option: that of a stage which its cascade lacks is not asked."""
        if dimension.is_group:
            return True
        groups = [each for each in in_order(self.space) if each.is_group and each.option in point]
        chosen = tuple(each.setting(point[each.option]) for each in groups)
        places = self._places.setdefault(chosen, {})
        if dimension.option not in places:
            fixed = [text for text in self.record.fixed if not text.startswith("++")]
            places[dimension.option] = has(self.composed([*chosen, *fixed]), dimension.option)
        return places[dimension.option]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with super().exclusive(), alone(self.url) if self.url else nullcontext():  # other folders choose from it too
            yield

    def _points_first(self, space: Sequence[Dimension], fixed: Sequence[str]) -> tuple[dict[str, Value], ...]:
        """The points to try first: of baselines, of earlier runs, and as given.

        Raises:
            UserError: one is no point that the search could propose itself, or there are more than trials.
        """
        found = [*self._baselines(space, fixed)] if self.baselines else []
        for given in self.first:
            found += [given] if isinstance(given, dict) else points_of(str(given), space)
        known = {dimension.option: dimension for dimension in space}
        problems = Problems("first")
        for point in found:
            for option, value in point.items():
                problems.check(
                    option in known and known[option].holds(value),
                    f"{option}={value} is not among what is searched: {', '.join(known)}.",
                )
        problems.check(
            len(found) <= self.n_trials, f"there are {len(found)} points to try first, and n_trials is {self.n_trials}."
        )
        problems.done()
        return tuple(found)

    def _baselines(self, space: Sequence[Dimension], fixed: Sequence[str]) -> Iterator[dict[str, Value]]:
        """A point for every combination of choices of groups, as of cascades, with the options that files ship where
        these are searched, else in the middle: with a target in bytes, all at equal bytes."""
        groups = [dimension for dimension in space if dimension.is_group]
        kept = [text for text in fixed if not text.startswith("++")]
        for choice in every_point(groups):
            cfg = self.composed([*(each.setting(choice[each.option]) for each in groups), *kept])
            point = dict(choice)
            for dimension in space:
                if not dimension.is_group and has(cfg, dimension.option):
                    shipped = OmegaConf.select(cfg, dimension.option)
                    point[dimension.option] = shipped if dimension.holds(shipped) else dimension.middle
            yield point


def _history(found: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """What a sampler learns from: results, points that run side by side, and of a sampler's own notes the numbers. A
    failed trial says nothing and keeps its place; an abandoned one counts as what it might have come to at best."""
    kept = [copy(trial) for trial in found]
    for trial in kept:
        trial.system_attrs = {key: note for key, note in trial.system_attrs.items() if isinstance(note, int | float)}
    return [learnt_from(trial) for trial in kept]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
