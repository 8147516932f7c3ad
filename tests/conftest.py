"""Models and data that tests of every part use, all built or shipped offline."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from rcc.data.splits import Splits
    from rcc.models.transformers.clip import CLIPWrapper

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Hydra's `--info` gives the root logger a handler on a captured stdout, which the next test finds closed."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def digits() -> Splits:
    """The digits in their default splits. Read only."""
    from rcc.data.registry import load_data

    return load_data("digits")


@pytest.fixture(scope="session")
def clip_checkpoint(tmp_path_factory: pytest.TempPathFactory, digits: Splits) -> Path:
    """A checkpoint directory of a CLIP with random weights: two layers a tower, width 32. Read only."""
    from rcc.training.architecture import Architecture, new_clip
    from rcc.training.pretrain import save_checkpoint

    sizes = Architecture(hidden=32, mlp=64, heads=4, vision_layers=2, text_layers=2, projection=16)
    adapter = new_clip(sizes, [*digits.class_names, *digits.templates], seed=0)
    return save_checkpoint(adapter, tmp_path_factory.mktemp("checkpoints") / "clip", {"seed": 0})


@pytest.fixture(scope="session")
def _clip(clip_checkpoint: Path) -> CLIPWrapper:
    from rcc.models.transformers.clip import CLIPWrapper

    return CLIPWrapper.load(clip_checkpoint, device="cpu")


@pytest.fixture
def clip(_clip: CLIPWrapper) -> CLIPWrapper:
    """The random CLIP of `clip_checkpoint`, the test's own to change."""
    return deepcopy(_clip)


@pytest.fixture(scope="session")
def _clip_tiny() -> CLIPWrapper:
    from rcc.models.registry import load_model

    return load_model("clip_tiny", device="cpu")


@pytest.fixture
def clip_tiny(_clip_tiny: CLIPWrapper) -> CLIPWrapper:
    """The trained CLIP that ships with the package, the test's own to change."""
    return deepcopy(_clip_tiny)


@pytest.fixture
def altered_checkpoint(clip_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of `clip_checkpoint` with its tensors, its config or its weights file changed."""
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    def alter(
        tensors: Callable[[dict[str, torch.Tensor]], object] | None = None,
        config: dict[str, object] | None = None,
    ) -> Path:
        copy = tmp_path / "altered"
        shutil.copytree(clip_checkpoint, copy)
        if tensors is not None:
            weights = load_file(copy / "model.safetensors")
            tensors(weights)
            save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        if config is not None:
            path = copy / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return copy

    return alter


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory, clip_checkpoint: Path) -> Callable[[str], Path]:
    """The random checkpoint of a model= by its name: two layers a tower, width 32, 32-pixel images. Read only."""
    from toys.checkpoints import SAVE

    made = {"clip": clip_checkpoint}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = SAVE[name](tmp_path_factory.mktemp("checkpoints") / name)
        return made[name]

    return find


@pytest.fixture(scope="session")
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tables are converted into a cache of the tests' own."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory, datasets_cache: None) -> Callable[[str], Path]:
    """The folder of the small data set of a data= by its name. Read only."""
    from toys.data_sets import WRITE

    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = WRITE[name](tmp_path_factory.mktemp("data") / name)
        return made[name]

    return find


@pytest.fixture
def random_model(checkpoint_of: Callable[[str], Path]) -> Callable[[str], Any]:
    """Loads the random model of a model= by its name, the test's own to change."""
    from rcc.models.registry import load_model

    return lambda name: load_model(name, path=checkpoint_of(name), device="cpu")
