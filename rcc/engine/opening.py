"""Open the model of an artifact or of a checkpoint directory, whichever a path holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from rcc.artifact.load import load
from rcc.artifact.manifest import is_artifact
from rcc.engine.encoding import LARGEST
from rcc.errors import Problems, UserError
from rcc.models.adapter import Adapter
from rcc.models.auto import OPEN_CLIP
from rcc.models.device import pick_device
from rcc.models.registry import load_model

Model = TypeVar("Model", bound=Adapter)


class OpensModel(ABC, Generic[Model]):
    """Opens the model of a path when it is first needed: what the engine and the encoders have in common.

    Args:
        path: an artifact (a directory or a file), or a checkpoint directory of transformers or open_clip.
        device: 'auto', 'cpu', 'cuda', …
        dtype: computed in: 'float32', 'float16', 'bfloat16'. Embeddings come out in float32.
        batch_size: items in one forward pass, 1 or more.
        verify: compare an artifact's bytes with their SHA-256 when it is opened.

    Raises:
        UserError: the path holds no model, or `batch_size` is no whole number from 1 up.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = LARGEST,
        verify: bool = True,
    ) -> None:
        problems = Problems(type(self).__name__)
        problems.whole("batch_size", batch_size, 1)
        problems.done()
        self.path, self.batch_size = Path(path), batch_size
        self._options: dict[str, Any] = {"device": device, "dtype": dtype, "verify": verify}
        check_there(self.path)

    @cached_property
    def model(self) -> Model:
        """The adapter, loaded when first asked for.

        Raises:
            UserError: it cannot be loaded, or is of another kind; the message names what is missing.
        """
        return self._taken(opened(self.path, **self._options))

    @abstractmethod
    def _taken(self, model: Adapter) -> Model:
        """The model that a path holds, once it is known to be one of the kind."""


def holds_model(path: Path) -> bool:
    """Whether a path is an artifact, or a checkpoint directory by the config in it."""
    return is_artifact(path) or any((path / name).is_file() for name in ("config.json", OPEN_CLIP))


def check_there(path: Path) -> None:
    """Refuse a path that holds no model, before anything is read of it.

    Raises:
        UserError: nothing there, or a directory without a manifest or a config.
    """
    if holds_model(path):
        return
    if (path / "artifact").is_dir() or (path / "artifact.rcc").is_file():
        inside = "artifact" if (path / "artifact").is_dir() else "artifact.rcc"
        raise UserError(f"{path} is the directory of a run; its model is {path / inside}.")
    found = "nothing" if not path.exists() else "a file" if path.is_file() else "a directory without config.json"
    raise UserError(
        f"{path} holds no model: there is {found}. Give the artifact of a run (artifact/ or artifact.rcc), or a"
        " checkpoint directory of transformers or open_clip."
    )


def opened(path: Path, device: str = "auto", dtype: str = "float32", verify: bool = True) -> Adapter:
    """The model, in evaluation mode, on its device.

    Args:
        dtype: to compute in, whatever the weights are stored in.
        verify: compare an artifact's bytes with their SHA-256.

    Raises:
        UserError: what is there cannot be loaded.
    """
    check_there(path)
    if not is_artifact(path):
        return load_model("auto", path=path, device=device, dtype=dtype).eval()
    model = load(path, dtype=dtype, verify=verify)
    model.module.to(pick_device(device))
    return model
