"""Leaves of nested mappings are named by dotted paths."""

from __future__ import annotations

from rcc.nested import leaves


def test_every_leaf_has_its_path_and_an_empty_mapping_is_one() -> None:
    nested = {"gate": {"threshold": 0.5, "more": {}}, "seed": 1, "list": [{"a": 1}]}
    assert leaves(nested) == {"gate.threshold": 0.5, "gate.more": {}, "seed": 1, "list": [{"a": 1}]}
    assert leaves({}) == {"": {}}
