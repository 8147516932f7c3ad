"""Build transformers configurations and skeletons from files that are not trusted.

Every size is checked before a module is made of it, and keys that reach code outside the library are dropped or
refused: whatever is wrong is one error that names the file and the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.utils import cached_file

from rcc.errors import Problems, UserError, unknown
from rcc.limits import how_to_raise, limits, read_json, regular_file

FOREIGN = ("auto_map", "custom_pipelines", "trust_remote_code", "transformers_weights")
"""Keys that name code or files of the checkpoint's own; as is any that ends in `_IMPLEMENTATION`. Dropped unread."""
_IMPLEMENTATION = "implementation"  # of attention or experts: it may name kernels that are fetched from the hub
_LAYERS, _WIDTH, _TOKENS, _SIDE = "layers", "width", "tokens", "image_side"
SIZES = {
    "num_hidden_layers": _LAYERS,
    "hidden_size": _WIDTH,
    "intermediate_size": _WIDTH,
    "encoder_hidden_size": _WIDTH,
    "image_text_hidden_size": _WIDTH,
    "pooler_output_size": _WIDTH,
    "projection_dim": _WIDTH,
    "projection_size": _WIDTH,
    "num_attention_heads": _WIDTH,
    "num_channels": _WIDTH,
    "vocab_size": _TOKENS,
    "max_position_embeddings": _TOKENS,
    "image_size": _SIDE,
    "patch_size": _SIDE,
}
"""The limit (of `rcc.limits`) of each size that a configuration may declare."""
PATTERNS = (
    (re.compile(r"(num_)?(\w+_)?n?_?(layers?|depths?)"), _LAYERS),
    (re.compile(r"(\w+_)?(positions|max_length)|max_\w+_positions|\w*vocab\w*_size"), _TOKENS),
    (re.compile(r"(\w+_)?(dim|dims|d_model|d_ff|d_kv|n_embd|embed|size|sizes|heads?|channels|experts|bins)"), _WIDTH),
)
"""The limits of sizes that `SIZES` does not name, which architectures call as they like: by the first pattern that the
whole key is of. At most so many; what means "none" (0, -1) is left to the architecture."""
ACTIVATIONS = ("hidden_act", "pooler_act")
READ = (".json", ".txt", ".model")
"""Endings of the files of a checkpoint that are read whole."""


def read_config(where: str, config_class: type[PretrainedConfig], local: bool = True) -> Any:
    """The configuration in config.json of a checkpoint directory or hub name, of `config_class`.

    Raises:
        UserError: the file cannot be read, asks for a size out of its limit, has a value of a wrong type, or says that
            the weights are quantised.
    """
    if Path(where).is_dir():
        check_files(Path(where))
    content = read_file(where, "config.json", local)
    file = f"{where}: config.json"
    cleaned = without_foreign_keys(content)
    problems = Problems(file)
    for key, value in _entries(cleaned):
        _check(key, value, problems)
    problems.done()
    key = config_class.base_config_key
    try:
        return config_class.from_dict(cleaned[key] if key and isinstance(cleaned.get(key), dict) else cleaned)
    except Exception as error:  # the library checks the types of what it knows, with errors of many kinds
        raise UserError(f"{file} is no {config_class.__name__}: {said(error)}") from error


def empty_model(where: str, model_class: type[PreTrainedModel], config: Any) -> Any:
    """The model of `config` in evaluation mode: parameters on the meta device, buffers real, no value drawn.

    Raises:
        UserError: the sizes in the configuration contradict one another.
    """
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    try:
        # Random values for parameters without data would take a third of the time that loading takes; and memory that
        # nobody writes to is never taken from the system, however large the parameter.
        with init_empty_weights(include_buffers=False), no_init_weights():
            module: Any = model_class(config).eval()
        module.tie_weights()  # each was given a parameter of its own on the way to the meta device
    except Exception as error:
        raise UserError(f"{where}: config.json describes no {model_class.__name__}: {said(error)}") from error
    return module


def check_image_sizes(where: str, local: bool = True) -> None:
    """Refuse a processor whose file asks for images beyond the limit.

    Raises:
        UserError: names the key.
    """
    problems = Problems(f"{where}: preprocessor_config.json")
    content = read_file(where, "preprocessor_config.json", local) if has_file(where, "preprocessor_config.json") else {}
    for key in ("size", "crop_size", "pad_size"):
        for name, value in _entries({key: content.get(key)}):
            # A height and a width may stand in a list under the key itself; under a name there is one number.
            for side in value if name == key and isinstance(value, list) and len(value) == 2 else [value]:
                if side is not None:
                    _check_size(name, side, _SIDE, problems)
    problems.done()


def check_files(directory: Path) -> None:
    """Refuse a checkpoint directory in which a file that would be read is none, or too large to be read whole.

    Links may lead out of the directory: the hub's cache is made of them.

    Raises:
        UserError: names the file.
    """
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            continue
        if path.suffix in READ:
            regular_file(path, limit="text_bytes")
        elif path.suffix == ".safetensors":
            regular_file(path)


def check_shards(where: str, local: bool = True) -> None:
    """Refuse an index of shards that names anything but safetensors files beside it.

    Another name would be read by another loader (a pickle can run code), or from another folder.

    Raises:
        UserError: lists what it names.
    """
    name = "model.safetensors.index.json"
    if not has_file(where, name):
        return
    shards = read_file(where, name, local).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{where}: {name} has no weight_map from tensors to files.")
    foreign = {str(shard) for shard in shards.values() if not _is_bare(shard)}
    if foreign:
        raise UserError(
            f"{where}: {name} names {', '.join(repr(shard) for shard in sorted(foreign)[:8])}. A shard must be a"
            " *.safetensors file beside the index; nothing else is read."
        )


def read_file(where: str, name: str, local: bool = True) -> dict[str, Any]:
    """The mapping in a JSON file of a checkpoint directory or hub name."""
    if Path(where).is_dir():
        return read_json(Path(where) / name)
    return read_json(Path(str(cached_file(where, name, local_files_only=local))))


def has_file(where: str, name: str) -> bool:
    """Whether a checkpoint directory, or the cache of a hub name, has the file `name`."""
    if Path(where).is_dir():
        return (Path(where) / name).exists()
    found = cached_file(where, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
    return found is not None


def without_foreign_keys(value: Any) -> Any:
    """`value` without the keys of `FOREIGN` and those that choose an implementation, at every level."""
    if isinstance(value, list):
        return [without_foreign_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if key not in FOREIGN and not key.endswith(_IMPLEMENTATION)}
    return {key: without_foreign_keys(item) for key, item in kept.items()}


def said(error: Exception) -> str:
    """An error of the library on one line: its type, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _entries(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a mapping and of those inside it, dotted, with the values that are no mappings."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check(key: str, value: Any, problems: Problems) -> None:
    parts = key.split(".")
    last = parts[-1]
    problems.check(
        "quantization_config" not in parts,
        "quantization_config: its weights are quantised in a format of their own. Give the dense checkpoint.",
    )
    if last in SIZES and value is not None:
        # A size of images or of their patches may be [height, width].
        pair = SIZES[last] == _SIDE and isinstance(value, list) and len(value) == 2
        for each in value if pair else [value]:
            _check_size(key, each, SIZES[last], problems)
    if last not in SIZES:
        _check_by_pattern(key, last, value, problems)
    if last in ACTIVATIONS and isinstance(value, str) and value not in ACT2FN:
        problems.check(False, f"{key}: {unknown('activation', value, ACT2FN)}")


def _check_by_pattern(key: str, last: str, value: Any, problems: Problems) -> None:
    limit = next((limit for pattern, limit in PATTERNS if pattern.fullmatch(last)), None)
    if limit is None:
        return
    most = getattr(limits, limit)
    for each in value if isinstance(value, list) else [value]:
        whole = isinstance(each, int) and not isinstance(each, bool)
        problems.check(not whole or each <= most, f"{key} is {each}; it must be at most {most}. {how_to_raise(limit)}")


def _check_size(key: str, value: Any, limit: str, problems: Problems) -> None:
    most = getattr(limits, limit)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not problems.check(whole, f"{key} is {value!r}; it must be a whole number from 1 to {most}."):
        return
    raised = f" {how_to_raise(limit)}" if value > most else ""
    problems.check(1 <= value <= most, f"{key} is {value}; it must lie between 1 and {most}.{raised}")


def _is_bare(shard: object) -> bool:
    return (
        isinstance(shard, str)
        and shard.endswith(".safetensors")
        and not set(shard) & set("/\\\0:")
        and not shard.startswith(".")
    )
