"""Adapt a user's own network of images (`model=module`), given by its import path and a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rcc.command_line import command_line
from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.models.device import pick_device, pick_dtype
from rcc.models.own.image_input import ImageInput
from rcc.models.own.import_path import build, emptied, fill
from rcc.models.own.module import ModuleAdapter
from rcc.models.single_layer import class_name
from rcc.models.transformers.classifying import classification_loss

DESCRIPTION = "network.json"
"""In an artifact: what it needs besides code and weights."""


class NetworkAdapter(ModuleAdapter):
    """A module that takes pixels (B, C, H, W) and gives logits (B, classes), with how images become pixels.

    Args:
        module: the network; it is changed in place.
        images: how an image becomes pixels.
        class_names: in the order of the logits; () where they are those of the data, in its order.
        target: the import path the network came from; written down, never followed.
        default_roles: the roles compressed unless a stage says otherwise.
    """

    name: ClassVar[str] = "module"
    batch_names: ClassVar[Sequence[str]] = ("pixel_values",)

    def __init__(
        self,
        module: nn.Module,
        images: ImageInput | None = None,
        class_names: Sequence[str] = (),
        target: str = "",
    ) -> None:
        super().__init__(module, reads=("images",))
        self.images, self.target = images or ImageInput(), target
        self.class_names = tuple(str(name) for name in class_names)

    @classmethod
    def load(
        cls,
        target: str | None = None,
        path: str | Path | None = None,
        arguments: Mapping[str, Any] | None = None,
        image_size: int = 224,
        resize: int | None = None,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str = "bilinear",
        class_names: Sequence[str] | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
    ) -> Self:
        """Build `target` with `arguments` and fill it from the safetensors file `path`, in evaluation mode.

        Args:
            target: 'package.module:name' of a class or a function that makes the module.
            image_size, resize, channels, mean, std, interpolation: see `ImageInput`.

        Raises:
            UserError: what is missing, cannot be imported or built, or weights that do not fit.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        images = ImageInput(image_size, resize, channels, mean, std, interpolation)
        _check_given(target, path)
        module = build(str(target), arguments)
        fill(module, str(path))
        return cls(module.to(place, precision), images, class_names or (), str(target)).eval()

    @classmethod
    def planned(  # type: ignore[override]
        cls, target: str | None = None, arguments: Mapping[str, Any] | None = None, **_: Any
    ) -> Self:
        """The network as it is built, with its parameters on the meta device: none is read."""
        _check_given(target, "")
        return cls(emptied(build(str(target), arguments)), target=str(target)).eval()

    @classmethod
    def around(cls, module: nn.Module, directory: Path) -> Self:
        """`module` with what the artifact in `directory` says of images and classes.

        Raises:
            UserError: the description is not one that this adapter wrote.
        """
        try:
            content = json.loads((directory / DESCRIPTION).read_text())
            images = ImageInput(**content["images"])
            class_names, target = content["class_names"], str(content["target"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"'{directory / DESCRIPTION}' does not describe a network: {error!r}.") from error
        return cls(module, images, class_names, target)

    @classmethod
    def skeleton(cls, directory: Path) -> Self:
        """None: no code is imported because a file names it.

        Raises:
            UserError: always; says how to give the network.
        """
        target = cls.around(nn.Identity(), Path(directory)).target
        told = command_line("job=evaluate", f"artifact={directory}", "model=module", f"model.target={target}")
        raise UserError(
            f"'{directory}' was written from the network '{target}', whose code only you have; nothing is imported"
            f" because a file says so. If you trust it, say it: {told}, with the same model.arguments; or from Python"
            " rcc.load(directory, skeleton=module)."
        )

    # Adapter.

    def prepare(  # type: ignore[override]
        self, images: Sequence[Any] | None = None, texts: Sequence[str] | None = None
    ) -> Batch:
        """`pixel_values` (B, C, H, W); texts that come with images are passed over.

        Raises:
            UserError: no images, or one of another kind.
        """
        if images is None:
            raise UserError("the model 'module' reads images and no texts: it has no text embeddings.")
        dtype = next((each.dtype for each in self.module.parameters() if each.is_floating_point()), torch.float32)
        return {"pixel_values": self.images.pixels(images).to(self.device, dtype)}

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (B, classes).

        Raises:
            UserError: the batch has no pixels, or the network does not give (B, classes), as many as named.
        """
        if "pixel_values" not in batch:
            raise UserError(f"this network needs pixel_values; the batch has {sorted(batch)}.")
        pixels = batch["pixel_values"]
        result = self.module(pixels)
        logits = result.get("logits") if isinstance(result, Mapping) else result
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(pixels):
            found = list(logits.shape) if isinstance(logits, Tensor) else type(result).__name__
            raise UserError(
                f"a network of model=module must give logits (B, classes), or a mapping that holds them under 'logits';"
                f" {class_name(self.module)} gave {found} for {len(pixels)} images."
            )
        if self.class_names and len(self.class_names) != logits.shape[1]:
            raise UserError(
                f"{len(self.class_names)} class_names were given and the network has {logits.shape[1]} logits."
            )
        return {"logits": logits}

    def loss(self, batch: Batch) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(self, batch)

    def save_files(self, directory: Path) -> None:
        """Write how images become pixels, the classes' names, and where the network came from."""
        directory.mkdir(parents=True, exist_ok=True)
        content = {"class_names": list(self.class_names), "images": self.images.to_json(), "target": self.target}
        (directory / DESCRIPTION).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _check_given(target: str | None, path: str | Path | None) -> None:
    problems = Problems("model 'module'")
    problems.check(target is not None, "say which network it is: model.target=my_package.nets:build.")
    problems.check(path is not None, "give its weights: model.path=weights.safetensors; they are not made up.")
    problems.done()
