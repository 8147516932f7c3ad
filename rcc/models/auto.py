"""Choose which `model=` loads a checkpoint (`model=auto`): by its config.json first, by its name second."""

from __future__ import annotations

import re
from pathlib import Path

from rcc.errors import UserError, nearest
from rcc.models.transformers.architectures import ARCHITECTURES, GENERAL, MODEL_TYPES, TEXT_ENCODER

AUTO = "auto"
FAMILIES = (*MODEL_TYPES, "bert", "roberta", "gpt2", "llama", "t5", "resnet", "swin", "deit", "convnext")
"""Kinds of models that a directory may be called after."""
OPEN_CLIP = "open_clip_config.json"
"""The config of a directory that open_clip wrote."""
RETRIEVING = ("itm", "retrieval")
"""Parts of the names of BLIPs that retrieve."""
SENTENCES = ("sentence", "minilm", "sbert", "simcse", "e5", "bge", "gte")
"""Parts of the names of encoders of sentences."""


def choose_model(path: str | Path | None) -> tuple[str, str]:
    """The `model=` for the checkpoint directory or hub name `path`, and a sentence that says why.

    `architectures` decides; without it model_type, and among the models of one type the name of the directory; without
    either the name alone. Of the architectures without an adapter of their own, those whose states are pooled, by the
    files of sentence-transformers or by the name, are encoders of sentences. The sentence warns of a name, and of
    files, that say another kind of model than config.json.

    Raises:
        UserError: no path, nothing there, or nothing that says what it is.
    """
    from rcc.models.transformers.checkpoint import architectures_of, locate  # late: it imports transformers
    from rcc.models.transformers.configuration import read_file
    from rcc.models.transformers.sentence_files import is_sentence_encoder

    if path is None:
        raise UserError("model=auto needs a path: model.path=<directory>, or a name on the hub.")
    where, local = locate(path, weights=False)
    if (Path(where) / OPEN_CLIP).is_file() and not (Path(where) / "config.json").is_file():
        return "open_clip", f"model=auto takes model=open_clip: {OPEN_CLIP} is there and no config.json."
    if Path(where).is_dir() and not (Path(where) / "config.json").is_file():
        raise UserError(_without_config(Path(where)))
    architectures = architectures_of(where, local)
    kind = read_file(where, "config.json", local).get("model_type")
    named = _families(where)
    if architectures:
        found = ARCHITECTURES.get(architectures[0], GENERAL) if len(architectures) == 1 else GENERAL
        reason = f"config.json says {', '.join(architectures)}"
    elif isinstance(kind, str):
        found, reason = _by_type(kind, where), f"config.json has no architectures and says model_type '{kind}'"
    elif named and named[0] in MODEL_TYPES:
        found, reason = _by_type(named[0], where), f"config.json says nothing, and its name says '{named[0]}'"
    else:
        raise UserError(
            f"'{where}': config.json has neither architectures nor model_type, and its name says no kind of model that"
            f" is known ({', '.join(FAMILIES)}). Write architectures: ['…'] into it, or name the model= yourself."
        )
    pooled = is_sentence_encoder(where)
    if found == GENERAL and pooled:
        found, reason = TEXT_ENCODER, f"{reason}, and the files beside it that its states are pooled to one embedding"
    elif found == GENERAL and (mark := _sentences(where)) and all(each.endswith("Model") for each in architectures):
        found, reason = TEXT_ENCODER, f"{reason}, and its name says '{mark}', an encoder of sentences"
    said = " ".join([*architectures, str(kind or "")]).lower()
    sentence = f"model=auto takes model={found}: {reason}."
    if pooled and found != TEXT_ENCODER:
        sentence += (
            " WARNING: files of sentence-transformers beside it say that its states are pooled; they are not read."
        )
    if named and said.strip() and not any(family in said for family in named):
        after = " and ".join(f"'{family}'" for family in named)
        sentence += f" WARNING: '{where}' is called after {after}; if its name is right, name the model= yourself."
    return found, sentence


def _by_type(kind: str, where: str) -> str:
    """The model of a model_type; of several the one that the name of the directory speaks of."""
    choices = MODEL_TYPES.get(kind, (GENERAL,))
    retrieving = any(mark in Path(where).name.lower() for mark in RETRIEVING)
    return choices[-1] if retrieving else choices[0]


def _sentences(where: str) -> str:
    """The part of the name of a directory or hub name that says an encoder of sentences; '' where none does."""
    words = re.split(r"[^a-z0-9]+", Path(where).name.lower())
    return next((mark for mark in SENTENCES if mark in words), "")


def _families(where: str) -> list[str]:
    """The kinds of models that the last part of a path or hub name is called after."""
    words = re.split(r"[^a-z0-9]+", Path(where).name.lower())
    return [family for family in FAMILIES if family in words]


def _without_config(directory: Path) -> str:
    names = sorted(each.name for each in directory.iterdir())
    by_name = _families(str(directory))
    guess = f" Its name says '{by_name[0]}'; without config.json its sizes are not known." if by_name else ""
    weights = next((name for name in names if name.endswith(".safetensors")), "weights.safetensors")
    return (
        f"'{directory}' has no config.json, by which model=auto tells what it is; it holds"
        f" {', '.join(names[:6]) or 'nothing'}.{nearest('config.json', names)}{guess} A network of your own goes by"
        f" model=module model.target=<module:name> model.path={directory / weights}."
    )
