"""Read the bodies of requests: what is asked of which model, checked before anything is computed."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcc.data.files import sounds
from rcc.data.files.images import decoded
from rcc.errors import UserError, text_fault
from rcc.serving.errors import ApiError

TEXT, IMAGE, AUDIO = "text", "image", "audio"
MODALITIES = (TEXT, IMAGE, AUDIO)
CALLED = {TEXT: "texts", IMAGE: "images", AUDIO: "sounds"}
"""Items of each in messages."""
FORMATS = ("float", "base64")
MOST_INPUTS = 2048
"""Items of one request, as OpenAI allows."""
_DATA = "data:"
_EXAMPLES = {IMAGE: ("an image", "data:image/png"), AUDIO: ("a sound", "data:audio/wav")}


@dataclass(frozen=True)
class EmbeddingRequest:
    """Items of one modality for one model: texts, images as PIL has them, or waveforms."""

    model: str
    modality: str
    items: list[Any]
    base64: bool = False
    prompt: str | None = None


def read_json(body: bytes) -> dict[str, Any]:
    """The mapping in a request's body.

    Raises:
        ApiError: it is none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ApiError(400, f"the body is a {type(content).__name__}; it must be an object.")
    return content


def embedding_request(content: Mapping[str, Any], models: Mapping[str, Any]) -> EmbeddingRequest:
    """What a body of /v1/embeddings asks for.

    Raises:
        ApiError: with the field that is wrong.
    """
    name = _model(content, models)
    modality = content.get("modality", TEXT)
    if not isinstance(modality, str) or modality not in MODALITIES:
        raise ApiError(400, f"modality is {modality!r}; it must be one of {', '.join(MODALITIES)}.", "modality")
    if modality not in models[name].modalities:
        there = " and ".join(models[name].modalities)
        raise ApiError(400, f"model '{name}' embeds {there}, and {modality} was asked for.", "modality")
    wanted = content.get("encoding_format", "float")
    if not isinstance(wanted, str) or wanted not in FORMATS:
        raise ApiError(400, f"encoding_format is {wanted!r}; it must be float or base64.", "encoding_format")
    width = models[name].dimensions
    if content.get("dimensions") not in (None, width):
        raise ApiError(400, f"model '{name}' gives {width} dimensions and no others.", "dimensions")
    prompt = prompt_name(content, models[name]) if modality == TEXT else None
    return EmbeddingRequest(name, modality, items_of(content.get("input"), modality), wanted == "base64", prompt)


def prompt_name(content: Mapping[str, Any], model: Any) -> str | None:
    """The `prompt_name` of a body: of what the model puts before each text; None where none is named.

    Raises:
        ApiError: the model does not have it.
    """
    name = content.get("prompt_name")
    if name is None or (isinstance(name, str) and name in model.prompts):
        return name
    there = ", ".join(model.prompts) or "none"
    raise ApiError(400, f"prompt_name is {name!a:.80}; the prompts of '{model.name}' are: {there}.", "prompt_name")


def items_of(given: Any, modality: str, field: str = "input") -> list[Any]:
    """The items of a field: one or several texts, or images or sounds as data URIs.

    Raises:
        ApiError: there are none or too many, or one cannot be read.
    """
    items = given if isinstance(given, list) else [given]
    if given is None or not items:
        raise ApiError(400, f"{field} is empty; give a text or a list of them.", field)
    if len(items) > MOST_INPUTS:
        raise ApiError(400, f"{field} has {len(items)} items and at most {MOST_INPUTS} are taken at a time.", field)
    if any(isinstance(each, int | list) for each in items):
        raise ApiError(
            400,
            f"{field} holds token ids, which belong to another model's tokenizer; send texts. In langchain's"
            " OpenAIEmbeddings set check_embedding_ctx_length=False.",
            field,
        )
    for place, each in enumerate(items):
        if not isinstance(each, str) or text_fault(each):
            raise ApiError(400, f"{field}[{place}] is {each!a:.80}; it must be a text.", field)
        if modality == TEXT and not each.strip():
            raise ApiError(400, f"{field}[{place}] is an empty text.", field)
    if modality == TEXT:
        return items
    return [_file(each, modality, f"{field}[{place}]", field) for place, each in enumerate(items)]


def _file(uri: str, modality: str, name: str, field: str) -> Any:
    """The image or the sound of a data URI. Nothing is ever fetched from elsewhere."""
    kind, example = _EXAMPLES[modality]
    if not uri.startswith(_DATA):
        start = uri[:40]
        raise ApiError(
            400,
            f"{name} begins with {start!a}; {kind} is a data URI, {example};base64,…: nothing is fetched.",
            field,
        )
    head, _, content = uri.partition(",")
    if not head.endswith(";base64"):
        raise ApiError(400, f"{name}: a data URI is coded in base64, as {example};base64,….", field)
    try:
        return (decoded if modality == IMAGE else sounds.decoded)(base64.b64decode(content, validate=True), name)
    except binascii.Error as error:
        raise ApiError(400, f"{name} is not base64: {error}.", field) from None
    except UserError as error:
        raise ApiError(400, str(error).split(" Remove or replace")[0], field) from None


def _model(content: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """The model that is asked for; the only one where none is named."""
    name = content.get("model")
    if name is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(name, str) or name not in models:
        raise ApiError(404, f"model {name!a:.80} is not served; there are {', '.join(models)}.", "model")
    return name
