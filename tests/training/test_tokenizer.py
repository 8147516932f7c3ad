"""The small tokenizer: one token a word, bytes for the rest, and text comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.data.digits import CLASS_NAMES, TEMPLATES
from rcc.training.tokenizer import END, START, merges_for, split_word, word_tokenizer

WORDS = sorted({word for text in (*CLASS_NAMES, *TEMPLATES) for word in text.replace("{}", "").split()})


@given(st.lists(st.text("abcde", min_size=1, max_size=7), max_size=12))
def test_every_word_is_one_piece_whatever_the_others_are(words: list[str]) -> None:
    merges = merges_for(words)
    assert len(set(merges)) == len(merges)
    assert all(split_word(word, merges) == [word + "</w>"] for word in words)


def test_the_merge_of_highest_priority_goes_first() -> None:
    assert split_word("abab", [("a", "b"), ("b", "a")]) == ["ab", "a", "b</w>"]
    assert split_word("abab", [("b", "a"), ("a", "b")]) == ["a", "ba", "b</w>"]


@pytest.mark.parametrize("word", WORDS)
def test_the_library_encodes_each_word_as_one_token(word: str) -> None:
    tokenizer = word_tokenizer([*CLASS_NAMES, *TEMPLATES], context=16)
    start, token, end = tokenizer(word).input_ids
    assert tokenizer.convert_ids_to_tokens([start, token, end]) == [START, word + "</w>", END]


def test_unknown_words_still_encode_and_come_back() -> None:
    tokenizer = word_tokenizer([*CLASS_NAMES, *TEMPLATES], context=16)
    for text in ("a photo of a zebra", "seven café"):
        tokens = tokenizer(text).input_ids
        assert max(tokens) < len(tokenizer)
        assert tokenizer.decode(tokens, skip_special_tokens=True).strip() == text


def test_the_vocabulary_is_the_bytes_twice_the_merges_start_and_end() -> None:
    tokenizer = word_tokenizer(["the", "three"], context=8)
    # t+h, th+e</w>; th+r, thr+e, thre+e</w>
    assert len(tokenizer) == 2 * 256 + 5 + 2
    assert tokenizer.model_max_length == 8
