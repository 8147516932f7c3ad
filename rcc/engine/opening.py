"""Open the model of an artifact or of a checkpoint directory, whichever a path holds."""

from __future__ import annotations

from pathlib import Path

from rcc.artifact.load import load
from rcc.artifact.manifest import is_artifact
from rcc.errors import UserError
from rcc.models.adapter import Adapter
from rcc.models.auto import OPEN_CLIP
from rcc.models.device import pick_device
from rcc.models.registry import load_model


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
