"""Command lines that are printed run when they are pasted."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st

from rcc.command_line import command, command_line, repeating


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)))
def test_the_shell_reads_the_words_that_were_meant(words: list[str]) -> None:
    assert shlex.split(command_line(*words)) == ["rcc-run", *words]


def test_flags_are_repeated_inside_the_block_alone() -> None:
    with repeating(["--config-dir", "my configs"]):
        assert command("resume=x") == ["rcc-run", "--config-dir", "my configs", "resume=x"]
        assert command_line("resume=x") == "rcc-run --config-dir 'my configs' resume=x"
    assert command_line("resume=x") == "rcc-run resume=x"
