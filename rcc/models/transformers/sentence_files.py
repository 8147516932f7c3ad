"""Read and write the files by which sentence-transformers says how states become embeddings, beside a checkpoint.

    modules.json                       what follows what: a transformer, a pooling, perhaps a normalisation
    1_Pooling/config.json              how the states of the tokens become one vector
    sentence_bert_config.json          most tokens of a text, and whether texts are lowered
    config_sentence_transformers.json  words before a text that say what it is for, and how vectors are compared

A module that is not known is refused by name: without it the embeddings would be those of another model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.utils import EntryNotFoundError
from transformers.utils import cached_file

from rcc.errors import Problems, UserError
from rcc.limits import limits, read_bytes
from rcc.models.pooling import POOLINGS
from rcc.models.transformers.configuration import has_file, read_file

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
LENGTH, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
FILES = (MODULES, POOLING, LENGTH, PROMPTS)
KNOWN = ("Transformer", "Pooling", "Normalize")
POOLED_BY = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "root_mean",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
"""What each key of `POOLING` means here, in the order in which the library joins the vectors of several."""
CALLED = {"cls": "first", "mean_sqrt_len_tokens": "root_mean", "weightedmean": "weighted_mean", "lasttoken": "last"}
"""What the library calls them where the file has `pooling_mode` alone; max and mean are called so there too."""
COSINE = "cosine"
LONGEST_PROMPT, MOST_PROMPTS = 4096, 256


@dataclass(frozen=True)
class SentenceSettings:
    """How a text becomes an embedding, beside the weights and the tokenizer.

    Attributes:
        pooling: names of `POOLINGS`, whose vectors are joined.
        normalise: to length 1.
        max_length: most tokens of a text; None for what the tokenizer and the config say.
        lower_case: texts are lowered before they are tokens.
        prompts: what is put before a text, by name.
        prompt: the name of the one that a text has for which nobody names another; None for none.
        similarity: what the vectors were trained to be compared by.
        assumed: whether no file says any of it.
    """

    pooling: tuple[str, ...] = ("mean",)
    normalise: bool = True
    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    similarity: str = COSINE
    assumed: bool = False

    def write(self, directory: Path, width: int) -> None:
        """Write the files, as the library reads them.

        Args:
            width: of a token's state.
        """
        steps = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * self.normalise)]
        modules = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(steps)
        ]
        ways = {key: way in self.pooling for key, way in POOLED_BY.items()}
        contents: dict[str, Any] = {
            MODULES: modules,
            POOLING: {"word_embedding_dimension": width, **ways},
            LENGTH: {"max_seq_length": self.max_length, "do_lower_case": self.lower_case},
            PROMPTS: {
                "prompts": dict(self.prompts),
                "default_prompt_name": self.prompt,
                "similarity_fn_name": self.similarity,
            },
        }
        for name, content in contents.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def is_sentence_encoder(where: str) -> bool:
    """Whether the files of a checkpoint directory or hub name say how states become embeddings."""
    return has_file(where, POOLING) or has_file(where, MODULES)


def read_sentence_settings(where: str, local: bool = True) -> SentenceSettings:
    """What the files in a checkpoint directory or of a hub name say; the mean over the tokens, normalised, where there
    is neither `MODULES` nor `POOLING`.

    Raises:
        UserError: a file that cannot be read, a value of a wrong kind, or a module or a pooling that is not known; all
            problems at once.
    """
    problems = Problems(where)
    content = {name: _mapping(where, name, local) for name in (POOLING, LENGTH, PROMPTS)}
    normalise = _normalises(where, local, problems)
    pooling = _pooling(content[POOLING], problems)
    length, lowered = content[LENGTH].get("max_seq_length"), content[LENGTH].get("do_lower_case", False)
    if length is not None:
        with problems.collecting():
            inner = Problems(LENGTH)
            inner.whole("max_seq_length", length, 3, limits.tokens)
            inner.done()
    problems.check(isinstance(lowered, bool), f"{LENGTH}: do_lower_case is {lowered!r}; it must be true or false.")
    prompts = content[PROMPTS].get("prompts") or {}
    default = content[PROMPTS].get("default_prompt_name")
    _check_prompts(prompts, default, problems)
    similarity = content[PROMPTS].get("similarity_fn_name") or COSINE
    problems.check(isinstance(similarity, str), f"{PROMPTS}: similarity_fn_name is {similarity!r:.40}; it is a name.")
    problems.done()
    return SentenceSettings(
        pooling, normalise, length, lowered, dict(prompts), default, similarity, not is_sentence_encoder(where)
    )


def _normalises(where: str, local: bool, problems: Problems) -> bool:
    """Whether embeddings are of length 1, by the modules."""
    if not has_file(where, MODULES):
        return True
    modules = _list(where, MODULES, local)
    sound = all(isinstance(each, dict) and isinstance(each.get("type"), str) for each in modules)
    if not problems.check(bool(modules) and sound, f"{MODULES} is no list of modules with their type."):
        return True
    kinds = [each["type"].rpartition(".")[2] for each in modules]
    strange = [kind for kind in kinds if kind not in KNOWN]
    problems.check(
        not strange,
        f"{MODULES} names {', '.join(strange)}, which is not handled here: its weights would be left out. What is"
        f" handled: {', '.join(KNOWN)}.",
    )
    place = modules[0].get("path", "")
    problems.check(
        place == "",
        f"{MODULES} says that the transformer lies in {place!r:.60}, and it is read beside {MODULES} alone: give that"
        " folder, or save the model anew by a version of sentence-transformers from 2 on.",
    )
    problems.check(
        bool(strange) or kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]),
        f"{MODULES} has {', '.join(kinds)}, in that order; it must be a Transformer, a Pooling, and perhaps Normalize.",
    )
    return "Normalize" in kinds


def _pooling(content: Mapping[str, Any], problems: Problems) -> tuple[str, ...]:
    if not content:
        return ("mean",)
    said = content.get("pooling_mode")
    named = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    chosen = [CALLED.get(str(each), str(each)) for each in named]
    chosen += [way for key, way in POOLED_BY.items() if content.get(key) is True and way not in chosen]
    strange = [key for key, value in content.items() if key.startswith("pooling_mode_") and value is True]
    strange = [key for key in strange if key not in POOLED_BY] + [way for way in chosen if way not in POOLINGS]
    problems.check(not strange, f"{POOLING} asks for {', '.join(strange)}, a pooling that is not known here.")
    problems.check(
        bool(chosen),
        f"{POOLING} chooses no pooling. Set one of {', '.join(POOLED_BY)} to true.",
    )
    problems.check(
        content.get("include_prompt", True) is not False,
        f"{POOLING}: include_prompt is false, so that the tokens of a prompt are to be left out of the pooling, which"
        " is not done here.",
    )
    return tuple(way for way in POOLED_BY.values() if way in chosen)


def _check_prompts(prompts: Any, default: Any, problems: Problems) -> None:
    sound = isinstance(prompts, dict) and len(prompts) <= MOST_PROMPTS
    sound = sound and all(isinstance(text, str) and len(text) <= LONGEST_PROMPT for text in prompts.values())
    if problems.check(
        sound,
        f"{PROMPTS}: prompts must map up to {MOST_PROMPTS} names to texts of up to {LONGEST_PROMPT} characters.",
    ):
        problems.check(
            default is None or (isinstance(default, str) and default in prompts),
            f"{PROMPTS}: default_prompt_name is {default!r:.60}, and the prompts are {', '.join(prompts) or 'none'}.",
        )


def _mapping(where: str, name: str, local: bool) -> Mapping[str, Any]:
    return read_file(where, name, local) if has_file(where, name) else {}


def _list(where: str, name: str, local: bool) -> list[Any]:
    """The list in a JSON file; [] where there is something else."""
    path = Path(where) / name if Path(where).is_dir() else Path(str(cached_file(where, name, local_files_only=local)))
    try:
        found = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError, EntryNotFoundError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error}).") from error
    return found if isinstance(found, list) else []
