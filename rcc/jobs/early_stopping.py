"""Report a trial's steps to what watches its search, and ask whether the steps that are left are worth doing."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.cascade.abandonment import Question
from rcc.cascade.bytes.budget import Target
from rcc.cascade.records import StepRecord
from rcc.jobs.compression import Compression
from rcc.models.adapter import Adapter
from rcc.sweeps.early_stopping import Report
from rcc.sweeps.watching import watch_here


def question(job: Compression, model: Adapter, target: Target | None) -> Question | None:
    """What a cascade over the dense `model` asks before each step; None where nobody watches.

    The dense model is reported as step 0, with the bytes that its values take at the artifact's dtype.
    """
    watch = watch_here()
    if watch is None:
        return None
    plan = job.pipeline(target=target).plan(model)
    labels = [planned.step.label for planned in plan.steps]
    expected = float(plan.steps[-1].nbytes)

    def ask(done: Sequence[StepRecord]) -> str:
        left = tuple(dict.fromkeys(labels[len(done) :]))
        if not done:
            return watch.ask(Report(0, left, 1.0, float(plan.dense_bytes)), expected)
        return watch.ask(Report(len(done), left, done[-1].retention, float(done[-1].size.nbytes)), expected)

    return ask
