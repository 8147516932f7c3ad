from __future__ import annotations

import pytest

from rcc.models.wrapped_names import wrapper_prefix


@pytest.mark.parametrize(
    ("names", "wanted", "prefix"),
    [
        (["module.a", "module.b"], [], "module."),
        (["module.module.a"], ["module.a"], "module."),
        (["_orig_mod.module.a"], [], "_orig_mod.module."),
        (["module.a", "b"], [], ""),
        (["module.a"], ["module.a", "module.b"], ""),
        ([], [], ""),
    ],
)
def test_only_what_wrappers_put_before_all_names_is_a_prefix(names: list[str], wanted: list[str], prefix: str) -> None:
    assert wrapper_prefix(names, wanted) == prefix
