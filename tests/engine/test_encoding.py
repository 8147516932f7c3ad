"""Batches that are prepared ahead: in order, one at a time, errors where they belong."""

from __future__ import annotations

import threading

import pytest
import torch

from rcc.engine.encoding import ahead
from rcc.errors import UserError


def test_the_next_batch_is_prepared_while_one_is_computed() -> None:
    begun, main = [], threading.get_ident()
    release = threading.Event()

    def prepare(part: int) -> dict[str, torch.Tensor]:
        assert threading.get_ident() != main
        begun.append(part)
        if part == 1:
            release.set()
        return {"x": torch.tensor(part)}

    found = []
    for batch in ahead(prepare, range(4)):
        assert release.wait(10)  # by the time that the first is given, the second was begun
        found.append(int(batch["x"]))
    assert found == begun == [0, 1, 2, 3]
    assert list(ahead(prepare, [])) == []


def test_an_item_that_cannot_be_prepared_ends_it_at_its_batch() -> None:
    def prepare(part: int) -> dict[str, torch.Tensor]:
        if part == 2:
            raise UserError("image 2 cannot be decoded")
        return {"x": torch.tensor(part)}

    batches = ahead(prepare, range(4))
    assert [int(next(batches)["x"]) for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match="image 2"):
        next(batches)
