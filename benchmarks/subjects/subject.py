"""Define what the benchmark asks of a real model: the dense network, its data, its metric and what is to be reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from equal_bytes.figures import Figure
from equal_bytes.limits import Goal
from torch import Tensor, nn

from rcc.artifact.load import load
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

Answers = Mapping[str, Tensor]
"""What a model says on the test split, by name, as far as its figures need it."""


class Subject(ABC):
    """A dense model with three disjoint sets of data: calibration for the stages, selection for the gate, test.

    Args:
        data: the folder of shared data sets.
        work: where decoded data and dense answers are kept.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    figures_of: ClassVar[Mapping[str, tuple[str, str]]]
    """The figures of its table: by their names, the heading of the column and the format of the number."""
    goals: ClassVar[Mapping[float, Goal]]
    """For each ratio that is asked, what must and what should be reached."""
    note: ClassVar[str] = ""
    """What a reader of its table has to know."""
    evaluated: ClassVar[int] = 0
    """Items of the test split, where the search's time is measured against evaluations of `SEARCHED` items."""
    overrides: Sequence[str] = ()
    """What `rcc-run` is told of the model, where its data and metric are the project's own."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work

    @abstractmethod
    def skeleton(self) -> nn.Module:
        """The dense module with its weights, new at each call."""

    @abstractmethod
    def adapter(self, module: nn.Module) -> Adapter:
        """The adapter through which `module` is compressed and measured."""

    @abstractmethod
    def calibration(self) -> Sequence[Batch]:
        """What stages and baselines may learn from."""

    @abstractmethod
    def selection_quality(self, model: Adapter) -> float:
        """What the gate looks at: better when higher."""

    @abstractmethod
    def answers(self, model: Adapter) -> Answers:
        """What the model says on the test split."""

    @abstractmethod
    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        """The figures of a model by the names of `figures_of`, from its answers beside the dense model's."""

    def dense(self) -> Adapter:
        return self.adapter(self.skeleton()).eval()

    def reload(self, folder: Path) -> Adapter:
        """The model of an artifact."""
        # `load` puts weights into the module it is given; the adapter of the subject knows how to call that.
        return self.adapter(load(folder, skeleton=self.skeleton()).module).eval()

    def parts(self) -> Sequence[Subject]:
        """The dense models that stand in one row together: their bytes are added, their answers joined."""
        return [self]
