"""Command lines that are printed run when they are pasted."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st

from rcc.command_line import command, command_line, names_code, repeating, resume_line


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)))
def test_the_shell_reads_the_words_that_were_meant(words: list[str]) -> None:
    assert shlex.split(command_line(*words)) == ["rcc-run", *words]


def test_flags_are_repeated_inside_the_block_alone() -> None:
    with repeating(["--config-dir", "my configs"]):
        assert command("resume=x") == ["rcc-run", "--config-dir", "my configs", "resume=x"]
        assert command_line("resume=x") == "rcc-run --config-dir 'my configs' resume=x"
    assert command_line("resume=x") == "rcc-run resume=x"


def test_a_resume_says_again_what_chooses_code_and_nothing_else() -> None:
    said = ["model=module", "model.target=mine:Network", "+model.arguments={width: 3}", "seed=3", "data.path=x"]
    assert resume_line("a run", said) == (
        "rcc-run 'resume=a run' model.target=mine:Network '+model.arguments={width: 3}'"
    )
    assert not names_code("model.targets=3")
    assert names_code("hydra.job.chdir=true")
