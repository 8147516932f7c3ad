"""job=compress: dense model in, cascade over it, artifact out, reloaded and measured, with a report."""

from __future__ import annotations

import shlex

from rcc.cascade.records import Summary
from rcc.errors import UserError
from rcc.jobs.claim import claimed, finished
from rcc.jobs.deliver import deliver, provenance
from rcc.jobs.request import Request
from rcc.jobs.target import target_of
from rcc.jobs.watchers import watchers
from rcc.reporting.delivery import Delivery
from rcc.reporting.report import ReportContent, write_report
from rcc.reporting.run_manifest import note_data, read_run_manifest


def compress(request: Request) -> tuple[float, float] | None:
    """Run the cascade, or what is left of it, and deliver.

    Returns:
        (retention on the selection split, bytes of the artifact's directory), the objectives of a sweep; None
        when there was nothing left to do.
    """
    if not request.stages:
        raise UserError("stage= names no stage. Join one or more names with '+', as in stage=dare+nullu+alpha.")
    if finished(request):
        print(
            f"{request.directory} has already finished: its report is {request.directory / 'report.md'}, its artifact "
            f"{request.directory / 'artifact'}. Nothing was done; start a fresh run to compress again."
        )
        return None
    with claimed(request, plan=request.steps()), watchers(request) as observers:
        splits = request.data()
        note_data(request.directory, splits.fingerprint)
        model = request.model()
        pipeline = request.pipeline(observers, target_of(request, model, request.directory, provenance(splits)))
        pipeline.run(
            model,
            lambda adapter: request.measure(adapter, splits.selection, splits),
            request.calibration(model, splits.calibration),
            resume=request.resumed,
        )
        summary = pipeline.get_pipeline_summary()
        delivery = deliver(request, pipeline, model, splits)
        observers.delivered(delivery)
        write_report(request.directory, _content(request, summary, delivery))
    return summary.retention, float(delivery.nbytes)


def _content(request: Request, summary: Summary, delivery: Delivery) -> ReportContent:
    stages = " → ".join(stage.label for stage in request.stages)
    return ReportContent(
        title=f"{stages} on {request.settings['model']['name']}, {request.settings['data']['name']}",
        command=shlex.join(["rcc-run", *request.overrides]),
        summary=summary,
        delivery=delivery,
        settings=request.settings,
        seed=request.seed,
        environment=read_run_manifest(request.directory)["environment"],
    )
