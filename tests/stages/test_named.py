"""Stages from plain descriptions."""

from __future__ import annotations

import pytest

from rcc import shipped
from rcc.errors import UserError
from rcc.stages.dare.compressor import DARECompressor
from rcc.stages.named import stage_of

SHIPPED = shipped.choices(shipped.config_dir(), "stage")


@pytest.mark.parametrize("key", ["type", "name"])
def test_a_description_names_a_type_and_options(key: str) -> None:
    stage = stage_of({key: "dare", "target_sparsity": 0.7, "label": "first"})
    assert isinstance(stage, DARECompressor)
    assert (stage.strength, stage.label) == (0.7, "first")


def test_every_type_makes_a_stage_of_that_method() -> None:
    assert [stage_of({"type": name}).method for name in SHIPPED] == SHIPPED


def test_a_stage_is_itself() -> None:
    stage = DARECompressor(0.5)
    assert stage_of(stage) is stage


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type": "darre"}, "unknown stage 'darre'. Did you mean 'dare'"),
        ({"type": "dare", "sparsity": 0.5}, "unknown option 'sparsity'. Did you mean 'target_sparsity'"),
        ({"type": "dare", "target_sparsity": 2}, "target_sparsity is 2"),
        ({"target_sparsity": 0.5}, "with 0 types: give a stage, or its type and options, as {'type': 'dare'"),
        ({"type": "dare", "name": "dare"}, "with 2 types"),
        ("dare", "a stage was given as str, 'dare'"),
    ],
)
def test_what_is_no_description_is_refused_with_the_form_that_is_wanted(given: object, said: str) -> None:
    with pytest.raises(UserError) as error:
        stage_of(given)  # type: ignore[arg-type]
    assert said in str(error.value)
