"""Train a model: pre-training, recovery and distillation by one loop, with checkpoints that resume to the bit."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rcc.errors import Problems, UserError, WorkError
from rcc.layers.model import Model
from rcc.learning.average import Average
from rcc.learning.callback import Callback as Callback
from rcc.learning.checkpoint import damage, has_training, read_training, tensors_of, write_training
from rcc.learning.history import Epoch, History, Standing, lost
from rcc.learning.loop import Best, Loop, no_batches
from rcc.learning.optimisers import optimiser_for
from rcc.learning.parameters import batch_norm_counts, clamp_scales, logit_scales
from rcc.learning.precision import precision_of
from rcc.learning.processes import current
from rcc.learning.resuming import items_left, load_state, state_of
from rcc.learning.schedules import LearningRates
from rcc.learning.supervised import Supervised
from rcc.learning.training_options import TrainingOptions as TrainingOptions

Progress = Callable[[int, int, str], None]


class CompressionTrainer:
    """Trains the parameters of a model that take gradients, in place.

    >>> trainer = CompressionTrainer(student, teacher, {"lr": 1e-3, "wd": 0.05, "epochs": 3, "kd_temp": 2.0})
    >>> history = trainer.train(train_loader, val_loader, 3)

    or on any loss and score, as pre-training and the recovery of a cascade do:

    >>> trainer = CompressionTrainer(model, config=TrainingOptions(epochs=3), loss=loss)
    >>> history = trainer.fit(batches, score, steps_per_epoch)

    The state after the same steps is the same to the bit, whether they were taken at once or with stops in between.

    Args:
        model: a module, or a model of rcc, which has a loss of its own.
        teacher_model: a model whose logits the student also learns, by `compute_distillation_loss`; it is not changed.
        config: `TrainingOptions`, or a mapping of their names or the specification's (lr, wd), and of those of
            `rcc.learning.supervised.Supervised` (kd_temp, kd_weight, mixed_precision).
        loss: a scalar from one batch; by default that of `Supervised`.
        progress: `(epochs done, epochs in all, what)`.
        callbacks: called between steps.
        checkpoints: the folder of `last.safetensors` and of the best epoch's weights, for nothing else; None writes
            none.
        resume: go on from the checkpoint in that folder, where there is one.
        identity: plain data that must be the same for a resume to go on the same way, as the batch size and the seed.
        as_measured: inside it, parameters have the values that are to be measured and kept.
        ready: whether the weights after an epoch may be kept; it holds after the last one.
        evaluating: train in evaluation mode, with running statistics fixed and without dropout.

    Raises:
        UserError: options out of range, or nothing to train.
    """

    def __init__(
        self,
        model: nn.Module | Model,
        teacher_model: nn.Module | Model | None = None,
        config: TrainingOptions | Mapping[str, Any] | None = None,
        *,
        loss: Callable[[Any], Tensor] | None = None,
        progress: Progress = lambda done, total, what: None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Path | str | None = None,
        resume: bool = False,
        identity: Mapping[str, Any] | None = None,
        as_measured: Callable[[], AbstractContextManager[object]] = nullcontext,
        ready: Callable[[], bool] = lambda: True,
        evaluating: bool = False,
    ) -> None:
        self.model, self.teacher_model = model, teacher_model
        self.module: nn.Module = model if isinstance(model, nn.Module) else model.module
        first = next(self.module.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        options, rest = Supervised.split(config or {}, self.device)
        if loss is not None and (teacher_model is not None or rest):
            raise UserError("training: a loss was given, so that a teacher, kd_temp and kd_weight have no effect.")
        self.supervised = Supervised(model, teacher_model, self.device, **rest)
        self.criterion, self.compute_distillation_loss = self.supervised.criterion, self.supervised.distillation
        self.loss = loss or self.supervised.loss
        self.progress, self.callbacks = progress, list(callbacks)
        self.folder = None if checkpoints is None else Path(checkpoints)
        self.resume, self.identity = resume, dict(identity or {})
        self.as_measured, self.ready, self.evaluating = as_measured, ready, evaluating
        self.processes = current()
        self.trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        problems = Problems("training")
        problems.check(bool(self.trained), "everything is frozen: no parameter of the model takes a gradient.")
        problems.done()
        self._configure(options)

    def _configure(self, options: TrainingOptions) -> None:
        """Stand before the first step of a training with these options."""
        self.options = options
        self.precision = precision_of(options.precision, self.device)
        self.scaler, self.mixed_precision = self.precision.scaler, self.precision.dtype is not None
        self.optimizer = optimiser_for(
            self.module,
            options.optimiser,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            betas=options.betas,
            momentum=options.momentum,
        )
        self.scheduler: LearningRates | None = None
        self.average = Average(self.module, options.average) if options.average else None
        self.best = Best(partial(tensors_of, self.module), operator.ge)
        self.standing = Standing()
        self.loaded_schedule: dict[str, Any] | None = None  # of a state that was loaded before there was a schedule
        self._started, self._first_step = time.monotonic(), 0

    @property
    def current_epoch(self) -> int:
        """Epochs that are finished."""
        return self.standing.epoch

    @property
    def global_step(self) -> int:
        """Steps so far, those that moved nothing included."""
        return self.standing.step

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; 0 before the first one is begun."""
        return 0 if self.scheduler is None else self.scheduler.total // self.options.epochs

    @property
    def history(self) -> History:
        """What each epoch of `fit` was like."""
        return self.standing.history

    # The specification's face

    def train(self, train_loader: Any, val_loader: Any, num_epochs: int | None = None) -> dict[str, list[float]]:
        """Train for `num_epochs`, by default as configured, and leave the weights of the best epoch in place.

        Args:
            train_loader: gives the same number of batches each time it is iterated over.
            val_loader: what `validate` measures after each epoch: its accuracy decides, or else its loss.

        Returns:
            A list with a number an epoch for each of train_loss, grad_norm, learning_rate, val_loss, and val_accuracy
            where there are classes.
        """
        if num_epochs is not None and num_epochs != self.options.epochs:
            self._configure(replace(self.options, epochs=num_epochs))
        found: dict[str, list[float]] = {}

        def score() -> float:
            measured = self.validate(val_loader)
            found.setdefault("learning_rate", []).append(self.optimizer.param_groups[0]["lr"])
            for name, value in measured.items():
                found.setdefault(f"val_{name}", []).append(value)
            return measured.get("accuracy", -measured["loss"])

        history = self.fit(lambda epoch: train_loader, score, len(train_loader))
        told = {"train_loss": "loss", "grad_norm": "norm"}
        return {name: [getattr(each, field) for each in history.epochs] for name, field in told.items()} | found

    def train_epoch(self, dataloader: Any) -> dict[str, float]:
        """Train on every batch of `dataloader` once.

        Returns:
            loss, grad_norm (its mean) and skipped (steps).
        """
        self._begin(len(dataloader))
        epoch = self._train_epoch(lambda number: dataloader)
        return {"loss": epoch.loss, "grad_norm": epoch.norm, "skipped": float(epoch.skipped)}

    def validate(self, dataloader: Iterable[Any]) -> dict[str, float]:
        """The mean loss over the items of `dataloader` without the teacher's part, and the accuracy where the targets
        are classes; in evaluation mode, without gradients."""
        self.module.eval()
        return self.supervised.measure(dataloader)

    # Training on any loss and score

    def fit(
        self,
        batches: Callable[[int], Iterable[Any]],
        score: Callable[[], float],
        steps_per_epoch: int,
        *,
        entry: bool = False,
    ) -> History:
        """Train, and leave the weights of the best epoch (the later of equals) in place, in evaluation mode.

        Args:
            batches: from an epoch's number, from 1, to its batches: as many and the same whenever it is asked.
            score: called after each epoch in evaluation mode, higher is better.
            steps_per_epoch: the number of batches in an epoch.
            entry: whether the weights it begins with, as epoch 0, may be the best.

        Raises:
            UserError: a checkpoint of another training, or a folder that cannot be written to.
            WorkError: more steps than allowed were not finite, an epoch has no batches, or the disk is full.
        """
        self._begin(steps_per_epoch)
        if entry and self.best.epoch is None:
            self.module.eval()
            with self.as_measured():
                self.best.offer(0, self.processes.told(score() if self.processes.leads else 0.0))
        while self.current_epoch < self.options.epochs and not self._out_of_patience:
            self._measure(self._train_epoch(batches), score)
        self.module.eval()
        self.best.restore()
        assert self.best.epoch is not None  # there is at least one epoch
        self.history.kept = self.best.epoch
        return self.history

    @property
    def _out_of_patience(self) -> bool:
        return self.options.patience is not None and self.history.waited >= self.options.patience

    def _begin(self, batches: int) -> None:
        """Make ready for epochs of so many batches; the second time nothing is left to do."""
        if self.scheduler is not None:
            return
        options = self.options
        total = options.epochs * max(1, math.ceil(batches / options.accumulate))
        self.scheduler = LearningRates(
            self.optimizer, options.schedule, total, options.warmup, options.plateau_factor, options.plateau_epochs
        )
        scales = logit_scales(self.module)
        after: list[Callable[[], object]] = [partial(clamp_scales, scales)] if scales else []
        if self.average is not None:
            after.append(self.average.update)
        self.loop: Loop[Any] = Loop(
            self.loss,
            self.optimizer,
            self.scheduler,
            clip=partial(nn.utils.clip_grad_norm_, self.trained, options.clip_norm),
            after_step=after,
            accumulate=options.accumulate,
            precision=self.precision,
            reduce=partial(self.processes.average, self.trained),
            agreed=self.processes.mean,
            counted=batch_norm_counts(self.module),
        )
        if not self.evaluating:
            self.processes.check_module(self.module)
        if self.processes.told(float(self.folder is not None and has_training(self.folder))):
            assert self.folder is not None
            if not self.resume:
                raise UserError(f"{self.folder} holds the checkpoint of a training: resume it, or give another folder.")
            if not self.processes.leads:
                self.processes.wait()  # until the first has removed what a kill left behind
            self.load_state_dict(read_training(self.folder, clean=self.processes.leads))
            if self.processes.leads:
                self.processes.wait()
            self.processes.wait()  # until all have read it
        else:
            if self.loaded_schedule is not None:
                with damage():
                    self.scheduler.load_state_dict(self.loaded_schedule)
            if self.folder is not None:
                self.save()  # a place that cannot be written to is found before an epoch's work
            self.processes.take_over(tensors_of(self.module))
        self._started, self._first_step = time.monotonic(), self.global_step

    def _train_epoch(self, batches: Callable[[int], Iterable[Any]]) -> Epoch:
        number = self.current_epoch + 1
        self.module.train(not self.evaluating)
        left = items_left(batches, number, self.standing)
        for step in self.loop.steps(map(self.processes.share, left)):
            self.standing.take(step)
            if self.standing.skipped > self.options.most_skipped:
                raise lost(step, self.standing, self.options)
            for callback in self.callbacks:
                callback.after_step(self, step)
            every = self.options.checkpoint_every
            if self.folder is not None and every and self.global_step % every == 0:
                self.save()
        if not self.standing.steps:
            raise no_batches(number)
        if not any(step.taken for step in self.standing.steps):
            raise lost(self.standing.steps[-1], self.standing, self.options)
        return Epoch.of(number, self.standing.finish_epoch())

    def _measure(self, epoch: Epoch, score: Callable[[], float]) -> None:
        """Score the model as it is after an epoch, and keep it if it is the best."""
        assert self.scheduler is not None
        self.module.eval()
        averaged = nullcontext() if self.average is None else self.average.in_place()
        with averaged, self.as_measured():
            epoch = replace(epoch, score=self.processes.told(score() if self.processes.leads else 0.0))
            if not math.isfinite(epoch.score):
                raise WorkError(f"the score after epoch {epoch.number} is {epoch.score}; lower learning_rate.")
            if self.ready():
                self.best.offer(epoch.number, epoch.score)
        self.history.epochs.append(epoch)
        self.scheduler.after_epoch(epoch.score)
        for callback in self.callbacks:
            callback.after_epoch(self, epoch)
        if self.folder is not None:
            self.save()
        rate = (self.global_step - self._first_step) / max(time.monotonic() - self._started, 1e-9)
        self.progress(epoch.number, self.options.epochs, epoch.told(rate))

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: 'tensors' by name, and 'state' as plain data (JSON)."""
        return state_of(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, by a trainer of the same model and options.

        Raises:
            UserError: it is of another training, of which every difference is said and nothing changed; or damaged.
        """
        with damage():
            load_state(self, state_dict)

    def save(self) -> None:
        """Write a checkpoint of the training as it stands, and remove what it replaces.

        Raises:
            UserError: there is no folder, or it cannot be written to.
            WorkError: the disk is full or fails.
        """
        if self.folder is None:
            raise UserError("training: there is no folder for checkpoints; give checkpoints=<folder>.")
        if self.processes.leads:
            write_training(self.folder, self.state_dict())
