"""Small real CLIPTokenizers: byte-level BPE made for given words, or trained on given texts.

Any other text still encodes, in the pieces there are and byte by byte, as with the published tokenizers. The
vocabulary is laid out as OpenAI's: the 256 byte symbols, the same at a word's end, one token a merge, start, end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from rcc.errors import UserError

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
FIXED = 2 * 256 + 2  # byte symbols within a word and at its end, start and end of a text
Pair = tuple[str, str]


def word_tokenizer(words: Iterable[str], context: int) -> CLIPTokenizer:
    """A tokenizer for texts of up to `context` tokens, start and end included, in which each word is one token."""
    return _with_merges(merges_for(sorted({word for text in words for word in text.lower().split()})), context)


def trained_tokenizer(texts: Iterable[str], size: int, context: int) -> CLIPTokenizer:
    """A tokenizer of at most `size` tokens whose merges were counted on `texts`: frequent words are one token, rare
    ones a few pieces. Merges that would join a pair seen only once are not made.

    Source of the method: Sennrich et al. (2016), byte-pair encoding, by the `tokenizers` library.

    Raises:
        UserError: `size` does not hold the byte symbols.
    """
    if size < FIXED:
        raise UserError(f"tokenizer: vocabulary is {size}; it must be at least {FIXED}, the bytes and two marks.")
    plain = _with_merges([], context).backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    learner.normalizer, learner.pre_tokenizer = plain.normalizer, plain.pre_tokenizer
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=ByteLevel.alphabet(),
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return _with_merges([(left, right) for left, right in merges[: size - FIXED]], context)


def _with_merges(merges: Sequence[Pair], context: int) -> CLIPTokenizer:
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=context)  # type: ignore[arg-type]


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
