"""Reading a transformers checkpoint strictly: the right architecture, every weight, nothing pickled, all
finite."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from rcc.errors import UserError, abridged, listed
from rcc.limits import expanded
from rcc.models.transformers import hub
from rcc.models.transformers.architectures import ARCHITECTURES
from rcc.models.transformers.configuration import check_shards, empty_model, read_file
from rcc.models.wrapped_names import say_stripped, wrapper_prefix

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
EMBEDDED_DEFAULT = "Without a checkpoint at hand, `rcc-run model=clip_tiny` runs the small CLIP that ships with rcc."
HOW_TO_GIVE = "Give a checkpoint directory with model.path=<directory>"
MOST_MISSING, SMALL = 4, 1 << 20
"""A config may ask for so many times the values of its files, and so many more, before it is refused unread."""

Model = TypeVar("Model", bound=PreTrainedModel)


def locate(name: str | Path, weights: bool = True) -> tuple[str, bool]:
    """Where to load `name` from: (directory or hub name, whether to stay with local files).

    Without `weights`, the config and the processor's files are enough.

    Raises:
        UserError: no such directory; or a hub name that is neither cached nor to be fetched, found out in
            seconds.
    """
    path, given = expanded("model.path", name), str(name).strip()
    if given and path.is_dir():
        return str(path), True
    looks_like_path = str(name).startswith((".", "/", "~", "\\")) or str(name).count("/") > 1 or path.exists()
    if looks_like_path or not given:
        kind = "is not a directory" if given and path.exists() else "does not exist"
        raise UserError(f"model.path '{name}' {kind}. {HOW_TO_GIVE} that holds config.json and model.safetensors.")
    if not hub.is_name(str(name)):
        raise UserError(
            f"model.path '{abridged(str(name))}' is no directory here, and no model on the hub can be called so: names"
            " there are owner/name, of letters, digits, '-', '_' and '.'."
            f" {HOW_TO_GIVE}, or check the name. {EMBEDDED_DEFAULT}"
        )
    if hub.cached(str(name), weights):
        return str(name), True
    reason = hub.why_unreachable()
    if reason:
        raise UserError(
            f"model '{name}' could not be loaded: there is no such directory, it is not in the local cache,"
            f" and {reason}. {HOW_TO_GIVE} that holds config.json, model.safetensors and the"
            f" processor's files. {EMBEDDED_DEFAULT}"
        )
    return str(name), False


def check_architecture(
    name: str, model_class: type[PreTrainedModel], local: bool = True, holders: Sequence[str] = ()
) -> None:
    """Refuse a checkpoint whose config does not name `model_class` as its architecture; one that names none is of it if
    it is of its model_type, or has none: its weights will tell.

    Args:
        holders: architectures that have it as a part.

    Raises:
        UserError: config.json is missing, unreadable, or of something else.
    """
    found, wanted = architectures_of(name, local), model_class.__name__
    kind = read_file(name, "config.json", local).get("model_type")
    fits = found in ([each] for each in (wanted, *holders)) or (
        not found and kind in (None, getattr(model_class.config_class, "model_type", None))
    )
    if not fits:
        fitting = ARCHITECTURES.get(found[0]) if len(found) == 1 else None
        advice = f"Use model={fitting} model.path={name}." if fitting else EMBEDDED_DEFAULT
        more = f", or one of {', '.join(holders)}," if holders else ""
        raise UserError(
            f"'{name}' holds {', '.join(found) or 'no architecture'}; this model needs architectures: ['{wanted}']"
            f"{more} in config.json. {advice}"
        )


def architectures_of(name: str, local: bool = True) -> list[str]:
    """The `architectures` of the config.json of a checkpoint directory or hub name.

    Raises:
        UserError: config.json is missing or unreadable.
    """
    try:
        config = read_file(name, "config.json", local)
    except (OSError, ValueError, UserError) as error:
        raise UserError(
            f"'{name}' has no readable config.json: {_first_line(error)} {HOW_TO_GIVE} as save_pretrained writes it."
        ) from error
    found = config.get("architectures") or []
    return [str(each) for each in found] if isinstance(found, list) else [str(found)]


def load_weights(
    name: str,
    model_class: type[Model],
    dtype: torch.dtype,
    config: PretrainedConfig,
    local: bool = True,
    within: str = "",
    beside: str = "",
) -> Model:
    """The model of `name` on the CPU, in evaluation mode, every parameter read from safetensors.

    A prefix that a wrapper put before all names, as DataParallel and torch.compile do, is left away, which is said.

    Args:
        config: of that model, as `read_config` checked it.
        within: where the model is a part of that of the files, a regular expression of what their names begin with
            there.
        beside: and one of what the names of the other parts begin with, which are not read.

    Raises:
        UserError: no safetensors file, tensors missing, unexpected or of another shape, or a NaN or infinity.
    """
    prefix = ""
    if Path(name).is_dir():
        _check_safetensors(Path(name), model_class.__name__)
        _check_values(Path(name), model_class, config)
        if prefix := wrapper_prefix(_stored_names(Path(name))):
            say_stripped(name, prefix)
    check_shards(name, local)
    away = f"^{re.escape(prefix)}" + (f"(?:{within})?" if within else "")
    renamed: dict[str, Any] = {"key_mapping": {away: ""}} if prefix or within else {}
    try:
        with quiet():
            loaded: Any = model_class.from_pretrained(
                name,
                config=config,
                use_safetensors=True,
                dtype=dtype,
                local_files_only=local,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **renamed,
            )
    except Exception as error:
        raise UserError(
            f"the weights of '{name}' could not be read: {_first_line(error)} {EMBEDDED_DEFAULT}"
        ) from error
    model: Model = loaded[0]
    _check_complete(name, loaded[1], beside)
    check_finite(name, model)
    _own_memory(model)
    return model.eval()


def _stored_names(directory: Path) -> set[str]:
    """The names of all tensors in the safetensors files of a directory; of those that can be read."""
    names: set[str] = set()
    for path in directory.glob("*.safetensors"):
        with suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:  # told when it is loaded
            names.update(file.keys())
    return names


def _own_memory(module: nn.Module) -> None:
    """Copy each tensor out of the mapped file, one at a time.

    In the file it can lie at any address; a product of unaligned memory may sum in another order and differ in
    the last bit from that of the same weights read back from an artifact.
    """
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()


def check_finite(name: str, module: nn.Module) -> None:
    """Refuse a module that holds a NaN or an infinity.

    Raises:
        UserError: names every such tensor.
    """
    broken = [key for key, tensor in module.state_dict().items() if not _finite(tensor)]
    if broken:
        raise UserError(f"'{name}' holds NaN or infinite weights in {listed(broken)}; nothing can be measured with it.")


def _finite(tensor: Tensor) -> bool:
    if not torch.is_floating_point(tensor) or not tensor.numel():
        return True
    # The extremes are NaN if any value is: this needs no temporary of the tensor's size.
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


def _check_safetensors(directory: Path, model_class: str) -> None:
    if (directory / "manifest.json").is_file():
        raise UserError(f"'{directory}' is an artifact of rcc and no checkpoint: load it with rcc.load('{directory}').")
    if any(directory.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if not pickles:
        raise UserError(f"'{directory}' holds no weights: no *.safetensors file is there. {EMBEDDED_DEFAULT}")
    raise UserError(
        f"'{directory}' holds its weights as {listed(pickles)} and not as safetensors."
        " Only safetensors is read, because a pickle can run code."
        f' If you trust the file, convert it once: python -c "from transformers import'
        f" {model_class} as M; M.from_pretrained('{directory}').save_pretrained('{directory}')\""
    )


def _check_values(directory: Path, model_class: type[PreTrainedModel], config: PretrainedConfig) -> None:
    """Refuse a config that asks for far more values than the files hold, before memory is asked for.

    Loading makes up what is missing, so that its sizes would be those that the config declares.
    """
    held = 0
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                held += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"the weights of '{directory}' could not be read: {path.name}: {_first_line(error)} {EMBEDDED_DEFAULT}"
            ) from error
    asked = sum(parameter.numel() for parameter in empty_model(str(directory), model_class, config).parameters())
    if asked > MOST_MISSING * held + SMALL:
        raise UserError(
            f"'{directory}': config.json asks for {asked} values and the weights hold {held}: they are not of one"
            f" model. {HOW_TO_GIVE} as save_pretrained writes it."
        )


def _check_complete(name: str, info: dict[str, Any], beside: str) -> None:
    # Old checkpoints store the position indices, which are a buffer that the model computes itself.
    unexpected = [key for key in info["unexpected_keys"] if not key.endswith(".position_ids")]
    if beside:
        unexpected = [key for key in unexpected if not re.match(beside, key)]
    problems = []
    if info["missing_keys"]:
        problems.append(f"'{name}' lacks the weights {listed(info['missing_keys'])}; they are not made up.")
    if unexpected:
        problems.append(f"'{name}' holds weights that this architecture does not have: {listed(unexpected)}.")
    problems += [
        f"'{name}': {key} has shape {tuple(found)} and the config asks for {tuple(wanted)}."
        for key, found, wanted in info["mismatched_keys"]
    ]
    if problems:
        raise UserError(*problems)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report on the console: what matters of it is raised as an error."""
    bar, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
