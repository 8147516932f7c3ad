"""job=train: train the model from scratch on the training split and leave a checkpoint directory."""

from __future__ import annotations

import shlex

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rcc.jobs.claim import claimed, command
from rcc.jobs.request import Request
from rcc.reporting.formats import metric_text

TRAINERS = ("pretrain",)


def train(request: Request) -> None:
    """Pre-train, keep the epoch that `eval=` finds best on the selection split, measure it once on the test split.

    The checkpoint, with the command, the seed and the scores, is `checkpoint/` in the run's directory.
    """
    from rcc.training.pretrain import pretrain, save_checkpoint

    options = dict(request.settings["trainer"])
    options.pop("name")
    with claimed(request):
        splits = request.data()
        what = TextColumn("{task.fields[what]}")
        with Progress(TextColumn("{task.description}"), BarColumn(), what, TimeRemainingColumn()) as display:
            row = display.add_task("training", total=None, what="")
            model, history = pretrain(
                splits,
                seed=request.seed,
                measure=request.measure,
                device=request.settings["device"],
                progress=lambda done, total, what: display.update(row, completed=done, total=total, what=what),
                **options,
            )
        test = request.measure(model, splits.test, splits)
        selection = request.measure(model, splits.selection, splits)
        record = {
            "command": " ".join(command(request)),
            "seed": request.seed,
            "data": request.settings["data"],
            "trainer": options,
            "selection": {metric.name: metric.value for metric in selection.metrics},
            "test": {metric.name: metric.value for metric in test.metrics},
            "history": history.to_json(),
        }
        directory = request.directory / "checkpoint"
        save_checkpoint(model, directory, record)
        print(f"test {test.main.name} {metric_text(test.main, error=True)} on {test.samples} images")
        print(f"Checkpoint: {directory}")
        again = ["rcc-run", "model=clip", f"model.path={directory}", *request.said_of("data", "eval")]
        print(f"Compress it: {shlex.join(again)}")
