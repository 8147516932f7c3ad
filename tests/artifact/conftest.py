from __future__ import annotations

from pathlib import Path

import pytest
from toys.adapters import ToyAdapter, compress, dense_toy

from rcc.artifact.write import write_artifact
from rcc.models import registry


@pytest.fixture(autouse=True)
def toy_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = registry.adapter_class
    monkeypatch.setattr(registry, "adapter_class", lambda name: ToyAdapter if name == "toy" else shipped(name))


@pytest.fixture
def dense() -> ToyAdapter:
    return dense_toy()


@pytest.fixture
def compressed() -> ToyAdapter:
    return compress(dense_toy())


@pytest.fixture
def artifact(compressed: ToyAdapter, tmp_path: Path) -> Path:
    """The compressed model, written without loss."""
    write_artifact(compressed, tmp_path / "artifact")
    return tmp_path / "artifact"
