"""Weigh what was searched by PED-ANOVA: how much being on the front, or among the best, depends on each option.

Watanabe, Bansal and Hutter, 'PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces',
IJCAI 2023, as Optuna computes it. The study is made anew in memory from the trials' folders, so that it needs neither
the sweep's study nor a database.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

LEAST_TRIALS = 10
LEAST_BEST = 5
"""Trials among the best that Optuna advises for a stable answer."""

Value = str | float


def importances(
    points: Sequence[Mapping[str, Value]], values: Sequence[Sequence[float]], directions: Sequence[str]
) -> dict[str, float]:
    """The share of each option, largest first; empty for fewer than `LEAST_TRIALS` trials or two distinct values.

    Args:
        points: of finished trials, each option's value.
        values: their objectives.
        directions: of these, 'maximize' or 'minimize'.
    """
    varied = [
        option
        for option in dict.fromkeys(name for point in points for name in point)
        if len({point.get(option) for point in points}) > 1
    ]
    if len(points) < LEAST_TRIALS or not varied:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    numeric = {option: all(isinstance(p[option], float) for p in points if option in p) for option in varied}
    held = {option: [p[option] for p in points if option in p] for option in varied}
    spaces: dict[str, optuna.distributions.BaseDistribution] = {}
    for option in varied:
        if numeric[option]:
            numbers = [float(value) for value in held[option]]
            spaces[option] = optuna.distributions.FloatDistribution(min(numbers), max(numbers))
        else:
            spaces[option] = optuna.distributions.CategoricalDistribution(
                sorted({str(value) for value in held[option]})
            )
    study = optuna.create_study(directions=[*directions])  # type: ignore[list-item]
    for point, reached in zip(points, values, strict=True):
        asked = {name: value if numeric[name] else str(value) for name, value in point.items() if name in spaces}
        study.add_trial(
            create_trial(params=asked, distributions={name: spaces[name] for name in asked}, values=list(reached))
        )
    quantile = min(0.5, max(0.1, LEAST_BEST / len(points)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental, and which way its targets go
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    return dict(sorted(found.items(), key=lambda item: -item[1]))
