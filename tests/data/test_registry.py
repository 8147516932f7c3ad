"""Data sets by name: each has a loader, a config with the loader's own options, and a section that shows its layout."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import pytest
import yaml

from rcc import shipped
from rcc.data.registry import load_data
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.plugins import locate

ROOT = Path(__file__).parents[2]
NAMES = shipped.choices(shipped.config_dir(), "data")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_has_the_options_and_defaults_of_its_loader(name: str) -> None:
    text = (ROOT / "conf" / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)
    target = options.pop("_target_")
    assert target.split(".")[-1] == f"load_{name}"
    parameters = signature(locate("data", target, Splits)).parameters
    defaults = {option: parameter.default for option, parameter in parameters.items()}
    assert options == {option: list(value) if isinstance(value, tuple) else value for option, value in defaults.items()}
    assert re.search(rf"^#   rcc-run (.* )?data={name}\b", text.partition("\n_target_:")[0], re.MULTILINE)
    assert "# Cost: " in text


@pytest.mark.parametrize("name", sorted({*NAMES} - {"digits"}))
def test_a_set_is_documented_and_asks_for_its_folder(name: str) -> None:
    assert re.search(
        rf"^    rcc-run (.* )?data={name} data\.path=", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE
    )
    with pytest.raises(UserError, match=rf"data '{name}' needs the place of its files: give data\.path=<folder>"):
        load_data(name)
