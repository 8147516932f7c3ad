"""The treebank's words in Python: known answers, and nothing that depends on how a caption is spaced or cased."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.evaluation.captioning.penn_treebank import PUNCTUATION, words
from rcc.evaluation.captioning.tokens import load_tokenizer

KNOWN = {
    "A black dog is running after a white dog in the snow .": "a black dog is running after a white dog in the snow",
    "": "",
    " . , ! ? ; : - -- ... '' `` \" ' `": "",
    # Contractions and possessives.
    "It doesn't matter, they can't and won't.": "it does n't matter they ca n't and wo n't",
    "I'm sure you're here; he'll say she'd've gone": "i 'm sure you 're here he 'll say she 'd 've gone",
    "The dog's ball, the dogs' ball": "the dog 's ball the dogs ball",
    "does n't 's": "does n't 's",
    "Don’t touch the girl’s": "do n't touch the girl 's",
    "I cannot; gonna, gotta, wanna, gimme, lemme": "i can not gon na got ta wan na gim me lem me",
    "'Tis the o'clock of O'Brien's rock 'n' roll": "'t is the o'clock of o'brien 's rock 'n' roll",
    "ma'am, get 'em 'til the '80s": "ma'am get 'em 'til the '80s",
    # Hyphens, dashes and slashes.
    "A two-year-old in a t-shirt -- black-and-white": "a two-year-old in a t-shirt black-and-white",
    "a man–a dog—and a cat - here": "a man a dog and a cat here",
    "bird 's-eye-view": "bird 's eye-view",
    "black/white and/or red": "black/white and/or red",
    # Full stops that end nothing.
    "Mr. Smith of St. Louis, U.S. at 5 p.m. etc.": "mr. smith of st. louis u.s. at 5 p.m. etc.",
    "jersey no. 5 says no. End.": "jersey no. 5 says no end",
    "John F. Kennedy. The J. The": "john f. kennedy the j the",
    "a street. a word.Next": "a street a word.next",
    # Numbers, money, marks.
    "$5.50 for 1,000 or 50% at 10:30am #1": "$ 5.50 for 1,000 or 50 % at 10:30 am # 1",
    "5'6\" 1/2 ½ -5 3D 10th": "5 6 1/2 1/2 -5 3d 10th",
    "A & B, AT&T &amp; a_b, what!? wow!!": "a & b at&t & a_b what !? wow !!",
    "(red) [blue] {green}": "-lrb- red -rrb- -lsb- blue -rsb- -lcb- green -rcb-",
    "me@site.com #tag @name avrovulcan.com": "me@site.com #tag @name avrovulcan.com",
    # Beyond ASCII.
    "Naïve café 😀 ÜBER 中文\u200b": "naïve café über 中文",
    "one\ntwo\tthree\u2028four": "one two three four",
}


@pytest.mark.parametrize("caption", KNOWN)
def test_captions_have_the_known_words(caption: str) -> None:
    assert " ".join(words(caption)) == KNOWN[caption]


@pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")
def test_the_known_words_are_those_of_the_published_tokenizer() -> None:
    assert dict(zip(KNOWN, load_tokenizer("java").tokenize(list(KNOWN)), strict=True)) == KNOWN


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_caption_gives_an_empty_word_a_space_or_punctuation(caption: str) -> None:
    found = words(caption)
    assert all(word and not any(character.isspace() for character in word) for word in found)
    assert not PUNCTUATION & set(found)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "dog", "cat's", "can't", "t-shirt", "mr.", "5", ",", ".", "u.s.", "(", "runs"]),
        max_size=12,
    )
)
def test_spaces_between_words_do_not_matter(parts: list[str]) -> None:
    assert words(" ".join(parts)) == words("\n  ".join(parts) + "  ")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["dog", "cat", "runs", "t-shirt", "red", "5", "snow"]), min_size=1, max_size=12))
def test_words_without_punctuation_come_back_as_they_are_whatever_ends_the_sentence(parts: list[str]) -> None:
    assert words(" ".join(parts).upper() + ".") == words(" ".join(parts) + " !") == parts
