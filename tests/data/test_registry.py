"""Data sets by name: each has a loader, a config with the loader's own options, and a section that shows its layout."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import pytest
import yaml

from rcc.by_name import find
from rcc.data.registry import LOADERS, load_data
from rcc.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_a_config_has_the_options_and_defaults_of_its_loader(name: str) -> None:
    text = (ROOT / "conf" / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)
    assert options.pop("name") == name
    parameters = signature(find("data", name, LOADERS)).parameters
    defaults = {option: parameter.default for option, parameter in parameters.items()}
    assert options == {option: list(value) if isinstance(value, tuple) else value for option, value in defaults.items()}
    assert f"rcc-run data={name}" in text.partition("\nname:")[0]
    assert "# Cost: " in text


def test_every_config_has_a_loader() -> None:
    assert {path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")} == set(LOADERS)


@pytest.mark.parametrize("name", sorted(set(LOADERS) - {"digits"}))
def test_a_set_is_documented_and_asks_for_its_folder(name: str) -> None:
    assert re.search(rf"^    rcc-run data={name} data\.path=", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE)
    with pytest.raises(UserError, match=rf"data '{name}' needs the place of its files: give data\.path=<folder>"):
        load_data(name)
