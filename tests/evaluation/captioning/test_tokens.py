"""Choosing who makes words of captions, and Java's words beside ours where Java is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rcc.errors import UserError, WorkError
from rcc.evaluation.captioning.tokens import load_tokenizer

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")

CAPTIONS = [
    "A black dog is running after a white dog in the snow .",
    "The dog's ball isn't here, and the boys' ball can't be found.",
    'A man in a T-shirt (red) says "hello!" -- it\'s 10:30am.',
    "Mr. O'Brien's rock 'n' roll band, St. Louis, U.S., at 5 p.m.",
    "I cannot; they're gonna. 'Tis 50% off: $5.50 for 1,000...",
    "Two-year-old girls/boys & their mother's #1 hat; what!? Wow!!",
    "Naïve café “smart quotes” don’t – at ½ price 😀.",
    "",
    "one\ntwo\u2028three",
    "jersey no. 5 [left] {right} at www.site.com, me@site.com",
    "",
]


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@needs_java
def test_java_and_python_make_the_same_words() -> None:
    java, python = load_tokenizer("java"), load_tokenizer("python")
    assert (java.name, python.name) == ("ptb (java)", "ptb (python)")
    assert java.tokenize(CAPTIONS) == python.tokenize(CAPTIONS)


@needs_java
def test_java_gives_what_the_published_wrapper_gives() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    written = [caption for caption in CAPTIONS if caption and caption.isascii()]
    wrapped = PTBTokenizer().tokenize({0: [{"caption": caption} for caption in written]})[0]
    assert load_tokenizer("java").tokenize(written) == wrapped


@needs_java
@pytest.mark.parametrize(
    "captions", [[], [""], ["", "a dog", "", ""], [" \n ", "a cat."], ["a dog", "😀", "\u200b \0"]]
)
def test_captions_without_words_keep_their_place(captions: list[str]) -> None:
    assert load_tokenizer("java").tokenize(captions) == load_tokenizer("python").tokenize(captions)


@needs_java
def test_auto_is_java_where_there_is_java() -> None:
    assert load_tokenizer("auto").name == "ptb (java)"


@pytest.mark.usefixtures("no_java")
def test_auto_is_python_where_there_is_no_java() -> None:
    tokenizer = load_tokenizer("auto")
    assert (tokenizer.name, tokenizer.tokenize(["It's a dog."])) == ("ptb (python)", ["it 's a dog"])


@pytest.mark.usefixtures("no_java")
def test_java_without_java_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"no 'java' is on the PATH.*tokenizer=python"):
        load_tokenizer("java")


def test_an_unknown_tokenizer_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown tokenizer 'pyton'. Did you mean 'python'\?.*auto, java, python"):
        load_tokenizer("pyton")


def test_a_java_that_fails_is_reported_with_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho 'Could not reserve enough space' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(WorkError, match=r"exit status 1: Could not reserve enough space.*tokenizer=python"):
        load_tokenizer("java").tokenize(["a dog"])
