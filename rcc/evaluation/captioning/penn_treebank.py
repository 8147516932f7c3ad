"""Words of English captions by the rules of the Penn Treebank, in Python alone.

Caption metrics are defined on the words that Stanford's PTBTokenizer makes, lower-cased and without punctuation
(Chen et al. 2015, *Microsoft COCO Captions*, section 3.1). That program needs Java. The rules here are the
treebank's (Marcus et al. 1993), with that program's reading of what they leave open, found by trying it out;
`docs/method/captioning.md` has how often the two agree.
"""

from __future__ import annotations

import re
import unicodedata

PUNCTUATION = frozenset(["''", "'", "``", "`", '"', *".?!,:-;", "--", "..."])
"""Tokens that are dropped. Brackets, '!!' and '?!' are words: the published list has no name for what they become."""

NAMES = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **{"€": "$", "£": "#", "¢": "cents"},
}
"""The treebank's names of single characters."""

SAME = {
    **{"’": "'", "\u0092": "'", "‘": "`", "“": '"', "”": '"', "«": '"', "»": '"', "…": "...", "\u00ad": ""},
    **{"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "},
    **dict.fromkeys("–—―", " -- "),
}
ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " ", "&amp;": "&"}

TWO_WORDS = {
    "cannot": "can not",
    "gimme": "gim me",
    "gonna": "gon na",
    "gotta": "got ta",
    "lemme": "lem me",
    "more'n": "more 'n",
    "wanna": "wan na",
    "'tis": "'t is",
    "'twas": "'t was",
}
"""Words that stand for two, and the two."""

ABBREVIATIONS = (
    "adj adm asst atty brig capt cmdr col comdr cpl det dr ft gen gov hon insp lieut lt maj messrs mlle mme mr mrs ms"
    " mt pres prof pvt rep rev sen sgt st ste supt jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed"
    " thu thurs fri al ariz assn ave bldg blvd bros calif cf co corp ct dept elec esq est etc inc intl jr ltd mfg natl"
    " rd rt sr tel univ vs"
)
"""Words that keep their full stop."""
BEFORE_NUMBERS = "art ext fig figs no nos p pp"
"""Words that keep their full stop before a number."""
SENTENCE_STARTERS = (
    "A About According After An As At But He Her Here However If In It Last Many More Now One Other Our She Since So"
    " Some That The Their Then There These They This We What When While You"
)
"""Capitalised words before which a single letter's full stop ends a sentence ("jersey B. The man")."""


def _any(listed: str) -> str:
    return f"(?:{'|'.join(sorted(listed.split(), key=len, reverse=True))})"


_LETTER = r"[^\W\d_]"
_IN_WORD = r"(?:[^\W_]|[\u0300-\u036f])"
_RUN = rf"{_IN_WORD}+(?:_+{_IN_WORD}+)*"
_END = r"(?![^\W_])"
_KINDS = {
    "tag": r"</?[a-z][^<>]*>",
    "address": r"(?:https?://|www\.)[^\s\"<>|]*[\w/]|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "handle": rf"[#@]{_LETTER}\w*",
    "two_words": rf"(?:{'|'.join(TWO_WORDS)})(?![^\W_]|[-_'][^\W_])",
    "clitic": rf"'(?:s|m|d|re|ve|ll|em|til|till|cause){_END}|'n{_END}'?|n't{_END}|'\d0s{_END}",
    "negated": rf"{_LETTER}+(?=n't{_END})",
    "elided": rf"[dol]'{_LETTER}{{2,}}(?:-{_RUN})*|ma'am|{_LETTER}*(?:e'er|ta'en)|ol'|y'(?=all)",
    "initials": rf"{_LETTER}(?:\.{_LETTER})+(?:\.{_END}|(?!\.?[^\W_]))",
    "abbreviation": rf"{_any(ABBREVIATIONS)}\.{_END}|{_any(BEFORE_NUMBERS)}\.(?=\s*\d)|{_LETTER}+\.(?=[,;:])",
    "initial": rf"{_LETTER}\.(?=\s)(?!\s*$|\s+(?-i:{_any(SENTENCE_STARTERS)})\b)",
    "time": r"\d\d?:\d\d(?=[ap]\.?m)",
    "number": rf"[-+]?\d+(?:[.,:/_-]\d+)*(?:-?{_LETTER}{_IN_WORD}*(?:-{_RUN})*)?|[-+]?\.\d+",
    "ampersand": r"(?-i:[A-Z]+&[A-Z]+)",
    "currency": r"(?:us|r|a|c|hk|nz)\$",
    "word": rf"{_RUN}(?:[-/@]{_RUN}|[.!?](?!\d){_RUN})*",
    "dots": r"\.{2,}",
    "dashes": r"-{2,}",
    "marks": r"[?!]+",
    "repeated": r"_+|\*+|#+|<+|>+",
    "other": r"\S",
}
_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()), re.IGNORECASE)
_DROPPED = ("dots", "dashes")


def words(caption: str) -> list[str]:
    """The words of one caption, lower-cased, without punctuation; what has none gives an empty list."""
    for written, meant in (SAME | ENTITIES).items():
        caption = caption.replace(written, meant)
    caption = " ".join(caption.split())
    if not (caption.isascii() and caption.isprintable()):
        caption = "".join(character for character in caption if _has_a_word(character))
    found: list[str] = []
    for match in _TOKEN.finditer(caption):
        token = match.group().lower()
        if match.lastgroup == "two_words":
            found += TWO_WORDS[token].split()
        elif match.lastgroup not in _DROPPED and token not in PUNCTUATION:
            found.append(NAMES.get(token, token))
    return found


def _has_a_word(character: str) -> bool:
    """Whether the treebank's tokenizer would keep it: pictographs and what has no width are dropped."""
    category = unicodedata.category(character)
    pictograph = ord(character) > 0xFFFF and category in ("So", "Sk")
    return not (pictograph or category in ("Cc", "Cf") or "\ufe00" <= character <= "\ufe0f")
