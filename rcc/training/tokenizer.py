"""A small real CLIPTokenizer: byte-level BPE in which each word it was made for is one token.

Any other text still encodes, byte by byte, as with the published tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
Pair = tuple[str, str]


def word_tokenizer(words: Iterable[str], context: int) -> CLIPTokenizer:
    """A tokenizer for texts of up to `context` tokens, start and end included.

    The vocabulary is laid out as OpenAI's: the 256 byte symbols, the same at a word's end, one token a merge,
    start, end.
    """
    words = sorted({word for text in words for word in text.lower().split()})
    merges = merges_for(words)
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context)  # type: ignore[arg-type]


def merges_for(words: Sequence[str]) -> list[Pair]:
    """BPE merges, by falling priority, under which each of `words` (printable ASCII, lower case) is one
    token.

    A word that the merges so far leave in pieces gets a further merge of its first two pieces until it is
    whole. What is added has the lowest priority, so it cannot break a word that was whole before.
    """
    merges: list[Pair] = []
    for word in words:
        while len(pieces := split_word(word, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    return merges


def split_word(word: str, merges: Sequence[Pair]) -> list[str]:
    """The BPE pieces of one word: the merge of highest priority is applied until none applies."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    rank = {pair: index for index, pair in enumerate(merges)}
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in rank]
        if not pairs:
            return pieces
        best = min(pairs, key=rank.__getitem__)
        joined, index = [], 0
        while index < len(pieces):
            if tuple(pieces[index : index + 2]) == best:
                joined.append("".join(best))
                index += 2
            else:
                joined.append(pieces[index])
                index += 1
        pieces = joined
