"""The small tokenizer: one token a word, bytes for the rest, and text comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.data.sets.digits import CLASS_NAMES, TEMPLATES
from rcc.errors import UserError
from rcc.training.tokenizer import END, START, merges_for, split_word, trained_tokenizer, word_tokenizer

CAPTIONS = [
    "A brown dog runs on the grass .",
    "Two dogs run after a brown ball on the beach .",
    "The dog's owner throws a ball .",
    "A man in a brown hat sits on a bench and reads , the dog at his side .",
]
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


def test_training_makes_frequent_words_one_token_and_rare_ones_several() -> None:
    tokenizer = trained_tokenizer(CAPTIONS, 560, context=32)
    assert tokenizer.tokenize("Brown DOG") == ["brown</w>", "dog</w>"]
    assert len(tokenizer.tokenize("bench")) > 1
    assert tokenizer.tokenize("zebra")[-1].endswith("</w>")
    assert tokenizer.model_max_length == 32


@given(st.text("abcdefgh dog brown ,.é猫", min_size=1, max_size=40).filter(str.strip))
def test_a_trained_tokenizer_gives_every_text_back(text: str) -> None:
    tokenizer = trained_tokenizer(CAPTIONS, 560, context=200)
    tokens = tokenizer(text).input_ids
    assert max(tokens) < len(tokenizer)
    assert (tokens[0], tokens[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    # Decoding puts a space after every word and mark, so letters are what can be compared.
    assert "".join(tokenizer.decode(tokens, skip_special_tokens=True).split()) == "".join(text.lower().split())


@pytest.mark.parametrize(("size", "full"), [(514, True), (530, True), (5000, False)])
def test_a_trained_vocabulary_is_laid_out_the_same_and_no_larger_than_asked(size: int, full: bool) -> None:
    tokenizer = trained_tokenizer(CAPTIONS, size, context=32)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == len(tokenizer) <= size
    assert (len(tokenizer) == size) is full  # no pair is left that was seen twice
    assert (vocabulary[START], vocabulary[END]) == (len(tokenizer) - 2, len(tokenizer) - 1)
    bytes_alone = word_tokenizer([], context=32).get_vocab()
    assert all(vocabulary[token] == index for token, index in bytes_alone.items() if token not in (START, END))


def test_the_same_texts_in_any_order_give_the_same_tokenizer() -> None:
    one = trained_tokenizer(CAPTIONS, 560, context=32).backend_tokenizer.to_str()
    assert trained_tokenizer(CAPTIONS[::-1], 560, context=32).backend_tokenizer.to_str() == one


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="vocabulary is 513; it must be at least 514"):
        trained_tokenizer(CAPTIONS, 513, context=32)
