"""A composer on the shipped configs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rcc.composing.composition import Composer, composer


@pytest.fixture(scope="module")
def configs() -> Iterator[Composer]:
    with composer() as opened:
        yield opened
