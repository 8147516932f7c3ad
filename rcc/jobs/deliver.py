"""Deliver a run: write the artifact, reload it from its files, and measure it beside the dense model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcc.artifact.manifest import read_manifest, record_metrics
from rcc.artifact.reloading import answers, refuse_difference, round_as_stored
from rcc.artifact.size import dense_bytes, directory_bytes
from rcc.artifact.write import write_artifact
from rcc.atomic import clean_leftovers, remove_directory
from rcc.cascade.gate import retention
from rcc.cascade.pipeline import RCCPipeline
from rcc.data.splits import Splits
from rcc.jobs.compression import Compression
from rcc.measurement import Measurement
from rcc.measurement.paired import differences
from rcc.models.adapter import Adapter
from rcc.reporting.delivery import Delivery
from rcc.reporting.items import write_items

DENSE_DTYPES = ("float32", "float16")


def deliver(job: Compression, pipeline: RCCPipeline, model: Adapter, splits: Splits) -> Delivery:
    """Write the artifact, reload it, compare it with the model in memory on a calibration batch, and measure it and
    the dense model once on the test split.

    The dense model comes back from the first checkpoint into `model`, whose weights are let go of where no cost of the
    artifact is measured beside it, so that memory holds two only then.

    Raises:
        WorkError: reloaded, the artifact does not give what the model in memory gives.
    """
    artifact = job.artifact_path
    clean_leftovers(job.directory)
    if job.container == "file" and artifact.is_file():  # an attempt that was killed between writing it and saying so
        artifact.unlink()
    elif artifact.exists():
        remove_directory(artifact)
    selection = pipeline.get_pipeline_summary()
    chosen_by = selection.records[-1].measurement
    recorded = manifest_metrics(chosen_by, selection.retention, provenance(splits))
    write_artifact(model, artifact, job.dtype, job.published, recorded, job.entropy, job.container)
    batch = job.batch(model, splits.calibration)
    round_as_stored(model.module, read_manifest(artifact))  # in place: what is needed next is the dense model
    memory = answers(model, batch)
    pipeline.rollback_to_dense(model)
    # What it costs to run is measured by every trial of a sweep, how good it is by one.
    dense = job.measure_all(model, splits) if job.measures_costs else job.measure_dense(model, splits.test, splits)
    dense_sizes = {dtype: dense_bytes(model, dtype, job.directory) for dtype in DENSE_DTYPES}
    beside = model if job.measures_costs else None
    if beside is None:
        model.module.to("meta")
    reloaded = job.artifact(artifact)
    refuse_difference(memory, answers(reloaded, batch), artifact)
    compressed = job.measure_all(reloaded, splits, beside)
    write_items(job.directory, splits.fingerprint, {"dense": dense, "compressed": compressed})
    record_metrics(artifact, manifest_metrics(chosen_by, selection.retention, provenance(splits), compressed, dense))
    return Delivery(
        artifact=str(artifact),
        dtype=job.dtype,
        nbytes=directory_bytes(artifact),
        dense_bytes=dense_sizes,
        dense=dense,
        compressed=compressed,
        retention=retention(dense.main, compressed.main),
        differences=differences(compressed, dense),
        again=job.command_to_measure(artifact),
        target=selection.target,
    )


def provenance(splits: Splits) -> dict[str, Any]:
    """Checksums of all data of a run, and of those that its stages were fitted to."""
    calibration = {"items": len(splits.calibration), "fingerprint": splits.calibration.fingerprint[:32]}
    return {"data_fingerprint": splits.fingerprint, "calibration": calibration}


def manifest_metrics(
    selection: Measurement,
    kept: float | None,
    data: Mapping[str, Any],
    test: Measurement | None = None,
    dense_test: Measurement | None = None,
) -> dict[str, Any]:
    """What the manifest notes of quality: the last step on the selection split, its retention where a dense model is
    known, and the test split; and of the `data` behind it, as `provenance` has it.

    Only what the gate measured too: what a model costs on one machine is in the run's report, not in what is shipped.
    """
    metrics = {"selection": _values(selection, selection), **({} if kept is None else {"retention": kept}), **data}
    tested = {"test": test, "dense_test": dense_test}
    return metrics | {name: _values(measured, selection) for name, measured in tested.items() if measured is not None}


def _values(measurement: Measurement, asked: Measurement) -> dict[str, float]:
    names = {metric.name for metric in asked.metrics}
    return {metric.name: metric.value for metric in measurement.metrics if metric.name in names}
