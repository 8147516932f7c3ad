"""Define what a model is to the rest of the project: a module with units, files to rebuild it from, and outputs.

Nothing outside `rcc.models` knows which architecture it holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.layers.units import Unit


class Adapter(ABC):
    """A loaded model with its processor and its compressible units."""

    name: ClassVar[str]
    default_roles: ClassVar[Sequence[str]]
    batch_names: Sequence[str] | None = None
    """What a batch holds, where `outputs` takes other names than the parameters of the module's forward."""
    reads: Sequence[str] = ("images", "texts")
    """The fields of data that `prepare` takes by name, as a split calls them; one that a split lacks is not given."""
    notes: Sequence[str] = ()
    """Sentences for the user about how it was read."""
    moments_set_by: str = "image_mean: {mean} and image_std: {std} in its preprocessor_config.json"
    """Where its `pixel_moments` are set, with their places."""
    check_input: bool = False
    """Whether a job may try other `pixel_moments` and warn of better ones."""
    calls_by_name: bool = False
    """Whether `outputs` hands every entry of a batch to the module's forward, under its name."""
    module: nn.Module

    @abstractmethod
    def units(self) -> list[Unit]:
        """Every weight the form can hold, embeddings and norms included, in module order."""

    @abstractmethod
    def prepare(self, *args: Any, **fields: Any) -> Batch:
        """Model inputs for raw values of the fields that the model `reads`, ready for `outputs` and `loss`: images
        (PIL, uint8 H × W × 3 arrays), texts, waveforms, whatever its architecture takes."""

    @abstractmethod
    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors a user of the model reads, by name, each (batch, …), differentiable."""

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        """The embeddings among the outputs before they are normalised, `image_embeds` and others (B, D); {} of a model
        that gives none."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The model's own training loss on the batch, a scalar."""

    @abstractmethod
    def save_files(self, directory: Path) -> None:
        """Write all that `skeleton` needs besides weights: the config and the processor's files."""

    @classmethod
    @abstractmethod
    def skeleton(cls, directory: Path) -> Self:
        """The model of those files with every parameter on the meta device and every buffer real."""

    @classmethod
    def load(cls, *args: Any, **options: Any) -> Adapter:
        """The model with its weights, by the options of its config file and `device`.

        Raises:
            UserError: what cannot be loaded.
        """
        raise NotImplementedError(f"{cls.__name__} is made from a model in memory and has no `load`")

    @classmethod
    def planned(cls, path: str | Path | None = None, **options: Any) -> Adapter:
        """The model of the files at `path` without weights, for planning. No option but `path` changes its shape.

        Raises:
            UserError: there is no path, or its files cannot be read.
        """
        if path is None:
            raise UserError(
                f"model '{cls.name}' needs a path: a checkpoint directory or a hub name, as model.path=<directory>."
            )
        return cls.skeleton(Path(path))

    def caveat(self, fields: Mapping[str, Any]) -> str:
        """A sentence for the user about what the model makes of raw values like these, by field as a split has them;
        '' where nothing is to be said."""
        return ""

    @property
    def pixel_moments(self) -> tuple[list[float], list[float]] | None:
        """(mean, std), a number a channel, by which its pixels in [0, 1] are normalised; None where it takes
        none."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the model is; the meta device only where none of its parameters has values."""
        devices = [parameter.device for parameter in self.module.parameters()]
        return next((device for device in devices if device.type != "meta"), devices[0])

    def eval(self) -> Self:
        """Put the module in evaluation mode; returns the adapter."""
        self.module.eval()
        return self
