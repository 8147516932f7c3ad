"""Compare a student's outputs with a teacher's, as losses to learn by.

Outputs are taken for what they are. Scores of alternatives, before a softmax, are compared as distributions, softened
by a temperature T (Hinton et al. 2015, arXiv:1503.02531). Embeddings of two towers give such scores too: those of each
image over the batch's texts and of each text over its images (CLIP-KD, Yang et al. 2024, arXiv:2307.12732). All else is
compared by its squared error, which for embeddings of length 1 is 2 - 2 cosine. Inside the networks the outputs of the
repeated blocks may be compared, as they are or by where they are large (attention transfer, Zagoruyko and Komodakis
2017, arXiv:1612.03928).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.errors import Problems, UserError
from rcc.layers.gather import gathered
from rcc.layers.model import Batch, Model

Outputs = Mapping[str, Tensor]
IMAGES, TEXTS = "image_embeds", "text_embeds"
SCALE = "logit_scale"
"""The parameter of models of two towers whose exponential multiplies cosines."""
_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """What each loss counts in the sum; 0 leaves it out.

    Attributes:
        features: squared error of the outputs that are no scores, relative to the teacher's squares.
        logits: T² · KL(teacher ‖ student) of scores.
        interactive: the contrastive loss of each of the student's embeddings among the teacher's of the other tower.
        hidden: relative squared error of what the repeated blocks put out.
        attention: squared distance of the maps of where that is large, each of length 1.
        task: the model's own loss.
    """

    features: float = 1.0
    logits: float = 1.0
    interactive: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0
    task: float = 0.0

    def check(self, problems: Problems) -> None:
        for field in fields(self):
            problems.at_least(field.name, getattr(self, field.name), 0)

    @property
    def any(self) -> bool:
        return any(getattr(self, field.name) > 0 for field in fields(self))

    @property
    def taught(self) -> bool:
        """Whether any of them compares with a teacher."""
        return any(getattr(self, field.name) > 0 for field in fields(self) if field.name != "task")


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), over the last dimension and averaged over all others.

    The factor keeps the gradient's size when T grows (Hinton et al. 2015, section 2.1).
    """
    soft = F.log_softmax(student / temperature, -1)
    target = F.log_softmax(teacher / temperature, -1)
    each = F.kl_div(soft, target, log_target=True, reduction="none").sum(-1)
    return temperature**2 * each.mean()


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """‖student - teacher‖² / ‖teacher‖², over all values."""
    return (student - teacher).square().sum() / teacher.square().sum().clamp_min(_TINY)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two maps of Σ over channels of squares, each of length 1, averaged over items.

    Args:
        student, teacher: (B, places, channels), or (B, channels, height, width).
    """
    return (_map_of(student) - _map_of(teacher)).square().sum(-1).mean()


def _map_of(values: Tensor) -> Tensor:
    channels = 1 if values.dim() == 4 else -1
    return F.normalize(values.square().sum(channels).flatten(1), dim=-1)


def compute_distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`kl_divergence`, under the specification's name (§4.2)."""
    return kl_divergence(student_logits, teacher_logits, temperature)


class KnowledgeDistillationLoss(nn.Module):
    """(student logits, teacher logits) (B, C) to a scalar, by `kl_divergence`.

    Args:
        temperature: above 0.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        problems = Problems("KnowledgeDistillationLoss")
        problems.positive("temperature", temperature)
        problems.done()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return kl_divergence(student, teacher, self.temperature)


def setup_teacher_student(teacher_model: nn.Module, student_model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The teacher in evaluation mode and frozen, and the student in training mode with its parameters learning.

    The specification would start a student of the teacher's structure from its weights; a compressed student holds
    what it is to keep, and starts from that.
    """
    teacher_model.eval().requires_grad_(False)
    student_model.train().requires_grad_(True)
    return teacher_model, student_model


class Distillation:
    """The weighted sum of losses of a student on batches, against a teacher that is run without gradients.

    Args:
        student: what learns.
        teacher: of the same inputs and outputs; None where the task's loss alone is weighed.
        weights: of the losses.
        temperature: that scores are softened by.

    Attributes:
        without_effect: losses that are weighed and that these models give nothing for, found at the first batch.
    """

    def __init__(self, student: Model, teacher: Model | None, weights: Weights, temperature: float = 2.0) -> None:
        self.student, self.teacher, self.weights, self.temperature = student, teacher, weights, temperature
        self.without_effect: list[str] | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """The loss on a batch, a scalar.

        Raises:
            UserError: none of the losses that are weighed has an effect on this model.
        """
        wanted, inputs = self.weights, {name: value for name, value in batch.items() if name != "labels"}
        if self.teacher is None or not wanted.taught:
            self.without_effect = []
            return wanted.task * self.student.loss(batch)
        with _blocks(self.teacher, wanted) as theirs, torch.no_grad():
            target = {name: gathered(each) for name, each in self.teacher.outputs(inputs).items()}
        with _blocks(self.student, wanted) as own:
            found = {name: gathered(each) for name, each in self.student.outputs(inputs).items()}
        own, theirs = (list(map(gathered, each)) for each in (own, theirs))
        losses = self._losses(self.teacher, found, target, own, theirs, batch)
        if self.without_effect is None:
            self._note(losses)
        return torch.stack([getattr(wanted, name) * loss for name, loss in losses.items()]).sum()

    def _losses(
        self,
        teacher: Model,
        found: Outputs,
        target: Outputs,
        own: list[Tensor],
        theirs: list[Tensor],
        batch: Batch,
    ) -> dict[str, Tensor]:
        weights, losses = self.weights, dict[str, Tensor]()
        features = [name for name, value in target.items() if not is_scores(name) and value.is_floating_point()]
        if weights.features and features:
            losses["features"] = _mean(relative_error(found[name], target[name]) for name in features)
        if weights.logits:
            with torch.no_grad():  # the teacher's scale is a parameter
                wanted = list(_scores(teacher, target))
            pairs = list(zip(_scores(self.student, found), wanted, strict=True))
            if pairs:
                losses["logits"] = _mean(kl_divergence(*pair, self.temperature) for pair in pairs)
        if weights.interactive and IMAGES in target and TEXTS in target:
            losses["interactive"] = _interactive(found, target, _scale(teacher).detach(), self._labels(batch))
        if weights.hidden and theirs:
            losses["hidden"] = _mean(relative_error(*pair) for pair in zip(own, theirs, strict=True))
        if weights.attention and theirs:
            losses["attention"] = _mean(attention_distance(*pair) for pair in zip(own, theirs, strict=True))
        if weights.task:
            losses["task"] = self.student.loss(batch)
        return losses

    @staticmethod
    def _labels(batch: Batch) -> Tensor | None:
        labels = batch.get("labels")
        return None if labels is None else gathered(labels)

    def _note(self, losses: Mapping[str, Tensor]) -> None:
        weighed = [field.name for field in fields(Weights) if getattr(self.weights, field.name) > 0]
        self.without_effect = [name for name in weighed if name not in losses]
        if not losses:
            raise UserError(
                f"the model gives nothing for the losses that are weighed, {', '.join(weighed)}: weigh features where"
                " it puts out other tensors than scores, logits where it puts out scores or embeddings of images and"
                " texts, hidden or attention where it has repeated blocks, or task."
            )


def is_scores(name: str) -> bool:
    """Whether an output of that name holds scores of alternatives."""
    return name == "logits" or name.endswith("_logits")


def _scores(model: Model, outputs: Outputs) -> Iterator[Tensor]:
    """Every set of scores of alternatives, (…, alternatives)."""
    yield from (value for name, value in outputs.items() if is_scores(name))
    if IMAGES in outputs and TEXTS in outputs:
        similar = _scale(model) * outputs[IMAGES] @ outputs[TEXTS].T
        yield from (similar, similar.T)


def _interactive(found: Outputs, target: Outputs, scale: Tensor, labels: Tensor | None) -> Tensor:
    """Cross-entropy of the student's images among the teacher's texts and of its texts among the teacher's images;
    pairs of one label are all right answers, each as good as another."""
    count = len(found[IMAGES])
    alike = torch.eye(count) if labels is None else (labels[:, None] == labels).float()
    right = (alike / alike.sum(1, keepdim=True)).to(found[IMAGES])
    images = scale * found[IMAGES] @ target[TEXTS].T
    texts = scale * found[TEXTS] @ target[IMAGES].T
    return (F.cross_entropy(images, right) + F.cross_entropy(texts, right)) / 2


def _scale(model: Model) -> Tensor:
    """What cosines of images and texts are multiplied by; 1 for a model that has no such number."""
    found = getattr(model.module, SCALE, None)
    return found.exp() if isinstance(found, Tensor) else torch.ones(())


def _mean(losses: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


@contextmanager
def _blocks(model: Model, weights: Weights) -> Iterator[list[Tensor]]:
    """Inside, what every repeated block of the model puts out is appended to the list, in the order of the calls."""
    outputs: list[Tensor] = []
    handles = []

    def keep(module: nn.Module, arguments: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and first.dim() in (3, 4):
            outputs.append(first)

    if weights.hidden or weights.attention:
        handles = [block.register_forward_hook(keep) for block in repeated_blocks(model.module)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The members of every list or sequence of two or more modules of one class that hold submodules, outermost
    first: a network's layers."""
    found: list[nn.Module] = []
    for part in module.modules():
        members = list(part.children()) if isinstance(part, nn.ModuleList | nn.Sequential) else []
        alike = len(members) > 1 and len({type(member) for member in members}) == 1
        if alike and any(True for _ in members[0].children()):
            found += members
    return found
