"""Compute the loss of inputs and targets, with a teacher's logits beside it, and measure it on held-out data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.errors import Problems, UserError
from rcc.layers.model import Model
from rcc.learning.training_options import TrainingOptions

KD = ("kd_temp", "kd_weight")


class Supervised:
    """Losses of a student on batches, each (inputs, targets) for a module, or a mapping for a model of rcc.

    Inputs are a tensor, a sequence of arguments or a mapping of names; a module gives logits (batch, …, classes), as a
    tensor or under `logits`. A model of rcc is asked for its own loss and, where there is a teacher, for the output
    'logits'.

    Args:
        device: where batches are moved.
        kd_temp: temperature of the distillation, above 0.
        kd_weight: the teacher's share of the loss, in [0, 1]; the specification's 0.3.
        criterion: of logits and targets.
    """

    def __init__(
        self,
        model: nn.Module | Model,
        teacher: nn.Module | Model | None,
        device: torch.device,
        kd_temp: float = 2.0,
        kd_weight: float = 0.3,
        criterion: nn.Module | None = None,
    ) -> None:
        problems = Problems("training")
        problems.positive("kd_temp", kd_temp)
        problems.within("kd_weight", kd_weight, "[0, 1]")
        problems.done()
        self.model, self.teacher, self.device = model, teacher, device
        self.kd_temp, self.kd_weight = kd_temp, kd_weight
        self.criterion = criterion or nn.CrossEntropyLoss()
        if teacher is not None:
            (teacher if isinstance(teacher, nn.Module) else teacher.module).to(device).eval()

    @staticmethod
    def split(
        config: TrainingOptions | Mapping[str, Any], device: torch.device
    ) -> tuple[TrainingOptions, dict[str, Any]]:
        """The options of a mapping, and those of this class. `mixed_precision` true is bfloat16 where the device has
        it, else float16; it may also name a precision.

        Raises:
            UserError: as `TrainingOptions.read`.
        """
        if isinstance(config, TrainingOptions):
            return config, {}
        rest = dict(config)
        mine = {name: rest.pop(name) for name in KD if name in rest}
        if "mixed_precision" in rest:
            mixed = rest.pop("mixed_precision")
            half = "float16" if device.type == "cuda" and not torch.cuda.is_bf16_supported() else "bfloat16"
            rest["precision"] = mixed if isinstance(mixed, str) else half if mixed else "float32"
        return TrainingOptions.read(rest), mine

    def loss(self, batch: Any) -> Tensor:
        """The task's loss, and with a teacher (1 − kd_weight) of it plus kd_weight of the distillation's."""
        task, logits = self._task(self.model, moved(batch, self.device))
        if self.teacher is None:
            return task
        with torch.no_grad():
            _, taught = self._task(self.teacher, moved(batch, self.device))
        return (1 - self.kd_weight) * task + self.kd_weight * self.distillation(logits(), taught())

    def distillation(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float | None = None) -> Tensor:
        """KL divergence of the student's softened classes (…, classes) from the teacher's, mean over the items, times
        the squared temperature, so that gradients keep their size (Hinton et al. 2015, arXiv:1503.02531).

        Args:
            temperature: by default kd_temp.
        """
        t = self.kd_temp if temperature is None else temperature
        classes = student_logits.shape[-1]
        student = F.log_softmax(student_logits.reshape(-1, classes) / t, dim=-1)
        teacher = F.log_softmax(teacher_logits.reshape(-1, classes) / t, dim=-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * t**2

    def measure(self, batches: Iterable[Any]) -> dict[str, float]:
        """The mean of the task's loss over items, and 'accuracy' where the targets are classes. Without gradients."""
        loss, right, classified, items = 0.0, 0, 0, 0
        with torch.no_grad():
            for batch in batches:
                batch = moved(batch, self.device)
                task, logits = self._task(self.model, batch)
                count = _items(batch)
                loss, items = loss + task.item() * count, items + count
                targets = None if isinstance(batch, Mapping) else batch[1]
                if targets is not None and not targets.is_floating_point():
                    right += int((logits().argmax(-1) == targets).sum())
                    classified += targets.numel()
        if not items:
            raise UserError("training: there are no items to validate on.")
        return {"loss": loss / items} | ({"accuracy": right / classified} if classified else {})

    def _task(self, model: nn.Module | Model, batch: Any) -> tuple[Tensor, Any]:
        """The task's loss, and what gives the logits."""
        if not isinstance(model, nn.Module):
            return model.loss(batch), lambda: _logits(model.outputs(batch))
        inputs, targets = batch
        outputs = _logits(_called(model, inputs))
        return self.criterion(outputs, targets), lambda: outputs


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(each, device) for name, each in batch.items()}
    return type(batch)(moved(each, device) for each in batch) if isinstance(batch, list | tuple) else batch


def _called(module: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs) if isinstance(inputs, list | tuple) else module(inputs)


def _logits(outputs: Any) -> Tensor:
    found = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", outputs)
    if not isinstance(found, Tensor):
        raise UserError("training: the model's output holds no logits; give loss=, a scalar from one batch.")
    return found


def _items(batch: Any) -> int:
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
    return len(batch)
