"""What `import rcc` gives: every name is there, and type checkers are told the same names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rcc


@pytest.mark.parametrize("name", rcc.__all__)
def test_every_public_name_leads_to_something(name: str) -> None:
    assert getattr(rcc, name) is not None


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(rcc.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = [alias.asname or alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom)
            for alias in node.names]  # fmt: skip
    assert sorted(told) == sorted(set(rcc.__all__) - {"__version__"})


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Nothing'; it has .*RetrievalEvaluator"):
        rcc.Nothing  # noqa: B018
