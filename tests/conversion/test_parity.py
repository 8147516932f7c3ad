"""Parity of outputs: what is the same model, what is another, though its cosines are high."""

from __future__ import annotations

import pytest
import torch

from rcc.conversion.parity import Parity, parities
from rcc.errors import UserError, WorkError


def outputs(seed: int = 0, offset: float = 0.0) -> dict[str, torch.Tensor]:
    return {"embeds": torch.randn(12, 8, generator=torch.Generator().manual_seed(seed)) + offset}


def test_a_model_is_itself_whatever_its_scale() -> None:
    (found,) = parities(outputs(), {"embeds": 3 * outputs()["embeds"]})
    assert (found.name, found.items, found.own) == ("embeds", 12, 1.0)
    for number in (found.cosine, found.least, found.centred, found.similarities):
        assert number == pytest.approx(1, abs=1e-9)
    assert found.judged() == ""


def test_another_model_is_told_apart_though_its_cosines_are_high() -> None:
    (found,) = parities(outputs(0, 30.0), outputs(1, 30.0))
    assert found.cosine > 0.99
    assert found.least > 0.99
    assert found.centred is not None
    assert found.centred < 0.5
    assert found.own < 0.5
    assert found.judged() == "fail"


def test_two_items_that_changed_places_are_not_nearest_to_their_own() -> None:
    swapped = outputs()["embeds"][[1, 0, *range(2, 12)]]
    (found,) = parities(outputs(), {"embeds": swapped})
    assert found.own == pytest.approx(10 / 12)
    cosines = torch.nn.functional.cosine_similarity(outputs()["embeds"].double(), swapped.double())
    assert found.cosine == pytest.approx(float(cosines.mean()))
    assert found.least == pytest.approx(float(cosines.min()))


def test_items_that_do_not_differ_have_no_cosine_about_their_mean() -> None:
    same = {"embeds": torch.ones(4, 3)}
    (found,) = parities(same, same)
    assert (found.centred, found.own, found.similarities) == (None, 1.0, 1.0)
    assert found.judged() == ""


def test_the_lowest_number_decides() -> None:
    assert Parity("a", 5, 1.0, 0.94, 0.99, 1.0, 1.0).judged() == "warn"
    assert Parity("a", 5, 1.0, 0.99, None, 0.89, 1.0).judged() == "fail"
    assert Parity("a", 5, 1.0, 0.94, 0.99, 1.0, 1.0).judged(warn=0.5, fail=0.1) == ""


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(UserError, match="parity needs 3 items or more, and there are 2"):
        parities({"a": torch.ones(2, 3)}, {"a": torch.ones(2, 3)})
    with pytest.raises(WorkError, match=r"has shape \(4, 3\) in one model and \(4, 2\)"):
        parities({"a": torch.ones(4, 3)}, {"a": torch.ones(4, 2)})
    with pytest.raises(WorkError, match="one model gives a and the other b"):
        parities({"a": torch.ones(4, 3)}, {"b": torch.ones(4, 3)})
    with pytest.raises(WorkError, match="not finite"):
        parities({"a": torch.ones(4, 3)}, {"a": torch.full((4, 3), torch.nan)})
