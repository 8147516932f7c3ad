"""Find all that is wrong with a command line before anything runs, and tell it at once.

Unknown groups' choices are taken out first, so that the rest can be composed and checked. Then each
combination of choices is composed twice: as asked, with unknown options let in, and as shipped, without
options. What the first has and the second lacks does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice, product
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rcc.command_line import key_of
from rcc.composing import joined, overrides
from rcc.composing.comparison import compare
from rcc.composing.composition import PRESETS, Composer, chosen, misplaced, own
from rcc.composing.overrides import Argument
from rcc.composing.sweep_options import has, of_combination, option_of
from rcc.composing.telling import in_words
from rcc.errors import unknown

MOST_COMBINATIONS = 64
DeepCheck = Callable[[DictConfig, Mapping[str, str]], list[str]]


def problems(
    texts: Sequence[str],
    composer: Composer,
    multirun: bool = False,
    resuming: bool = False,
    deep: DeepCheck | None = None,
) -> list[str]:
    """Every problem of the arguments `texts`; an empty list when the job can start.

    `deep` is asked about each config that can be composed, and the choices in it: what its job refuses.
    """
    arguments, unread = composer.read(texts)
    found = list(unread)
    if not multirun:
        found += [
            f"'{argument.text}' holds several values; add -m to run each of them."
            for argument in arguments
            if argument.swept
        ]
    swept = _searched(arguments, composer)
    if swept and multirun:
        given = {argument.key for argument in arguments}
        more, wrong = composer.read(swept)
        more = [
            argument for argument in more if argument.key not in given and _has_stage(argument, arguments, composer)
        ]
        arguments = more + arguments
        found += wrong
    elif swept and not resuming:
        found.append(f"this configuration is a sweep over {', '.join(swept)}; add -m to run it.")
    found += _Check(arguments, composer, deep).problems()
    return list(dict.fromkeys(found))


def _searched(arguments: Sequence[Argument], composer: Composer) -> list[str]:
    """The sweeper's own search space under the choices asked for; empty when they cannot be composed."""
    if not any(_may_bring_sweep(argument) for argument in arguments):
        return []
    fixed = [argument for argument in arguments if not argument.swept]
    alone = [argument for argument in fixed if argument.hydras or argument.key in PRESETS]
    for some in (fixed, alone):  # the first is what runs when nothing is swept, and is composed once for both
        with suppress(Exception):  # told where everything is composed
            cfg = composer.compose([argument.text for argument in some])
            return overrides.of_sweeper(cfg.hydra.sweeper.get("params"))
    return []


def _has_stage(searched: Argument, typed: Sequence[Argument], composer: Composer) -> bool:
    """Whether what a file searches is an option of a stage that may run; not where `stage=` was typed without it."""
    group, _, rest = searched.key.partition(".")
    label = rest.partition(".")[0]
    asked = [value for argument in typed if argument.key == group for value in argument.values]
    if group != "stage" or not asked or label not in composer.choices(group):
        return True
    return any(label in value.strip("'\"").split(joined.SEPARATOR) for value in asked)


def _may_bring_sweep(argument: Argument) -> bool:
    return argument.key in PRESETS or argument.key.replace("/", ".").startswith("hydra.sweeper")


class _Check:
    """The arguments sorted into choices of groups, options, and Hydra's own."""

    def __init__(self, arguments: Sequence[Argument], composer: Composer, deep: DeepCheck | None) -> None:
        self.composer, self.deep = composer, deep
        self.typed = None if any(a.swept for a in arguments) else [argument.text for argument in arguments]
        self.groups = composer.groups()
        self.hydras = [argument.text for argument in arguments if argument.hydras and not argument.swept]
        self.asked = {a.key: a for a in arguments if a.key in self.groups and not a.removes}
        self.options = [a for a in arguments if not a.hydras and a.key not in self.groups]
        self.removed = [a.text for a in arguments if a.key in self.groups and a.removes]
        self.found: list[str] = []
        self.placed: dict[str, bool] = {}
        self.wrong_groups: set[str] = set()

    def problems(self) -> list[str]:
        valid = {group: self._valid(argument) for group, argument in self.asked.items()}
        valid = {group: choices for group, choices in valid.items() if choices}
        first = [
            argument.setting(argument.values[0]) if argument.values else argument.text for argument in self.options
        ]
        combinations = [
            [f"{group}={choice}" for group, choice in zip(valid, choices, strict=True)]
            for choices in islice(product(*valid.values()), MOST_COMBINATIONS)
        ]
        if len(combinations) > 1:
            self.placed = self._placed(combinations)
        for choices in combinations:
            self._check(choices, first)
        for position, argument in enumerate(self.options):
            for value in argument.values[1:]:
                others = [*first[:position], argument.setting(value), *first[position + 1 :]]
                self._check(combinations[0], others)
        return self.found

    def _valid(self, argument: Argument) -> list[str]:
        """The choices of an argument that exist; notes the others."""
        group, available = argument.key, self.composer.choices(argument.key)
        if argument.listed:
            instead = f"; join {joined.GROUPS[group].noun}s with '+'" if group in joined.GROUPS else ""
            self._wrong(group, f"{argument.text} is a list; {group}= takes one choice{instead}.")
            return []
        values = [value.strip("'\"") for value in argument.values if value != "null"]
        if not values or values == [""]:
            empty = joined.empty(group, "") if group in joined.GROUPS else f"{group}= names no choice."
            self._wrong(group, f"{empty} Available: {', '.join(available)}.")
            return []
        valid = []
        for value in values:
            if group in joined.GROUPS:
                wrong = joined.problems(group, value, available)
                value = joined.sound(group, value, available)
            else:
                wrong = [] if value in available else [unknown(group, value, available)]
            for problem in wrong:
                self._wrong(group, problem)
            if value in available or (group in joined.GROUPS and value):
                valid.append(value)
        return valid

    def _wrong(self, group: str, problem: str) -> None:
        self.wrong_groups.add(group)
        self.found.append(problem)

    def _alone(self, choices: Sequence[str]) -> DictConfig | None:
        """The config of these choices without options; None where they cannot be composed, which is told later."""
        try:
            return self.composer.compose([*choices, *self.removed, *self.hydras])
        except Exception:
            return None

    def _placed(self, combinations: Sequence[Sequence[str]]) -> dict[str, bool]:
        """For each option, whether any of the combinations has a place for it."""
        every = [cfg for choices in combinations if (cfg := self._alone(choices)) is not None]
        options = [option_of(argument.text) for argument in self.options]
        return {option: any(has(cfg, option) for cfg in every) for option in options if option}

    def _used(self, job: str, texts: Sequence[str]) -> list[str]:
        """The arguments that set what the job uses, or what no job does; notes those that only others use."""
        kept, here = [], self.composer.of_job(job)
        for text in texts:
            key = key_of(text).partition(".")[0].partition("@")[0]
            # The other jobs are composed only for a name that this one lacks, which most commands do not have.
            owners = [] if key in here or key in PRESETS else self._owners(key)
            if not owners:
                kept.append(text)
                continue
            asked, others = text.lstrip("+"), " and ".join(f"job={name}" for name in owners)
            self.found.append(
                f"{asked}: job={job} has no steps to continue from; only {others} can be resumed. Start it afresh."
                if key == "resume"
                else f"{asked}: job={job} does not use '{key}', which belongs to {others}. Leave it out."
            )
        return kept

    def _owners(self, key: str) -> list[str]:
        """The jobs that have a group or an option of this name."""
        jobs = self.composer.choices("job")
        return [job for job in jobs if key in own(self.composer.of_job(job))]

    def _check(self, choices: Sequence[str], options: Sequence[str]) -> None:
        default = self.composer.of_job().hydra.runtime.choices.job
        job = next((text.partition("=")[2] for text in choices if text.startswith("job=")), default)
        choices, options = self._used(job, choices), self._used(job, options)
        if self.placed:
            options = of_combination(options, self._alone(choices), self.placed)
        choices = [*choices, *self.removed]
        asked = self._as_typed() or self._compose([*choices, *options, *self.hydras], [*choices, *options])
        if asked is None:
            return
        shipped = self.composer.shipped(asked.hydra.runtime.choices)
        order = misplaced(shipped)
        if order:
            self.found.append(order)
            return
        wrong = {
            path: problem
            for path, problem in compare(self._own(asked, shipped), _plain(shipped), chosen(asked, list(joined.GROUPS)))
            if not self._expected(path, shipped)
        }
        self.found += wrong.values()
        if self.deep:
            kept = [text for text in options if not _sets(text, wrong)]
            clean = asked if not wrong else self._compose([*choices, *kept], [])
            if clean is not None and not any(compare(self._own(clean, shipped), _plain(shipped), {})):
                self.found += self._deep_problems(self.deep, clean)

    def _as_typed(self) -> DictConfig | None:
        """The config of the very arguments, which whoever goes on with them asks for too; None where it takes more to
        say what is wrong."""
        if self.typed is None or self.found:
            return None
        with suppress(Exception):
            return self.composer.compose(self.typed)
        return None

    def _own(self, cfg: DictConfig, shipped: DictConfig) -> dict[str, Any]:
        """A config without what a preset sets for other jobs."""
        return {key: value for key, value in _plain(cfg).items() if key in shipped or not self._owners(key)}

    @staticmethod
    def _deep_problems(deep: DeepCheck, cfg: DictConfig) -> list[str]:
        try:
            return deep(own(cfg), cfg.hydra.runtime.choices)
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            return [in_words(error)]

    def _expected(self, path: str, shipped: DictConfig) -> bool:
        """Whether a problem at `path` only follows from a choice that was already called wrong."""
        group, _, rest = path.partition(".")
        if group not in self.wrong_groups:
            return False
        return group not in joined.GROUPS or rest.split(".")[0] not in shipped[group]

    def _compose(self, texts: list[str], fallback: list[str]) -> DictConfig | None:
        try:
            return self.composer.compose(texts)
        except Exception as error:
            self.found.append(in_words(error, self.composer.choices))
        if fallback and fallback != texts:
            return self._compose(fallback, [])
        return None


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(own(cfg), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _sets(text: str, paths: Mapping[str, str]) -> bool:
    key = key_of(text)
    return any(key == path or key.startswith(f"{path}.") or path.startswith(f"{key}.") for path in paths)
