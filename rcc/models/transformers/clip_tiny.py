"""Load the CLIP that ships with the package: `model=clip_tiny`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch

from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper


def embedded() -> Path:
    """The directory of the checkpoint inside the package."""
    return Path(str(resources.files("rcc") / "assets" / "clip_tiny"))


class EmbeddedCLIP(CLIPWrapper):
    """A CLIP whose checkpoint ships with the package. What it loads is a `CLIPWrapper` like any other."""

    @classmethod
    def load(  # type: ignore[override]
        cls,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> CLIPWrapper:
        """The model with its weights."""
        return CLIPWrapper.load(embedded(), device, dtype, gradient_checkpointing)

    @classmethod
    def planned(cls, path: str | Path | None = None, **options: Any) -> CLIPWrapper:
        """The model without weights.

        Raises:
            UserError: there is a path.
        """
        if path is not None:
            raise UserError(
                f"model 'clip_tiny' ships with the package and takes no path; use model=clip model.path={path}."
            )
        return CLIPWrapper.skeleton(embedded())
