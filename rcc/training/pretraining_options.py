"""Say how to pre-train: the options of training, and those of the data it is shown and the model it makes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from rcc.errors import Problems
from rcc.learning.affine import Affine
from rcc.learning.augmentation import AUGMENTATIONS
from rcc.learning.cropping import Crop
from rcc.learning.training_options import TrainingOptions
from rcc.training.architecture import Architecture
from rcc.training.order import SAMPLERS
from rcc.training.tokenizer import FIXED


@dataclass(frozen=True)
class PretrainingOptions(TrainingOptions):
    """As `TrainingOptions`, and:

    Args:
        batch_size: pairs of an image and a text in a batch, at least 2: the loss tells each from the others.
        sampler: in which order an epoch takes the images: see `order_of`.
        augmentation: 'affine' (`degrees`, `scale`, `shift`) for drawings, 'crop' (`area`, `flip`, `jitter`) for
            photographs.
        architecture: sizes other than those of `rcc.training.architecture.Architecture`.
        vocabulary: most tokens of the tokenizer that is trained on captions.
        memory_megabytes: that the decoded images may take.
        gradient_checkpointing: recompute the blocks' activations in the backward pass: less memory, more time.
    """

    free: ClassVar[tuple[str, ...]] = (*TrainingOptions.free, "memory_megabytes")

    batch_size: int = 64
    sampler: str = "shuffled"
    augmentation: str = "affine"
    degrees: float = 14.0
    scale: float = 0.15
    shift: float = 0.075
    area: float = 0.5
    flip: float = 0.5
    jitter: float = 0.2
    architecture: dict[str, int] | None = None
    vocabulary: int = 4096
    memory_megabytes: float = 2000
    gradient_checkpointing: bool = False

    def check(self, problems: Problems) -> None:
        super().check(problems)
        problems.check(
            self.batch_size >= 2,
            f"batch_size is {self.batch_size}; it must be at least 2: the contrastive loss tells pairs of one batch"
            " from each other.",
        )
        problems.choice("sampler", self.sampler, SAMPLERS)
        if problems.choice("augmentation", self.augmentation, AUGMENTATIONS):
            for kind, options in AUGMENTATIONS.items():
                for name in (field.name for field in fields(options)):
                    used = self.augmentation == kind
                    self.refuse_unused(problems, name, used, f"with augmentation={self.augmentation}: take {kind}")
        for made in (self.affine, self.crop, self.sizes):
            with problems.collecting():
                made()
        problems.whole("vocabulary", self.vocabulary, FIXED)
        problems.at_least("memory_megabytes", self.memory_megabytes, 0)

    def affine(self) -> Affine:
        """The change of drawings."""
        return Affine(self.degrees, self.scale, self.shift)

    def crop(self) -> Crop:
        """The change of photographs."""
        return Crop(self.area, self.flip, self.jitter)

    def sizes(self) -> Architecture:
        """The architecture of the model.

        Raises:
            UserError: a size that there is not, or sizes that do not fit each other.
        """
        problems = Problems("architecture")
        for name in self.architecture or {}:
            problems.choice("size", name, vars(Architecture()))
        problems.done()
        return Architecture(**(self.architecture or {}))
