"""Read a directory as open_clip writes it (open_clip_config.json, open_clip_model.safetensors) as transformers' CLIP.

The weights are the same numbers under other names, the three projections of attention in one matrix, and the last
projections transposed. What is computed from them is said by the config alone, so that every setting of it that CLIP
of transformers cannot have, or that nobody knows, is refused by name and none is guessed.

Source: open_clip, model.py (CLIPVisionCfg, CLIPTextCfg), transformer.py, transform.py (PreprocessCfg).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rcc.errors import Problems, UserError, listed
from rcc.limits import limits, read_json
from rcc.models.auto import OPEN_CLIP as CONFIG
from rcc.models.transformers.checkpoint import PICKLES
from rcc.models.transformers.clip import LEGACY_END, CLIPWrapper

WEIGHTS = "open_clip_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
EPSILON = 1e-5
"""Of open_clip's layer norms, where the config says nothing: torch's own."""
ACTIVATIONS = {None: "gelu", "none": "gelu", "tanh": "gelu_pytorch_tanh"}
"""transformers' name of a GELU by its `approximate`."""
FREE = ("patch_dropout", "output_tokens", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "pad_id", "eos_id")
"""Settings that change no output of such a model: of training, of other outputs, and of its tokenizer's files."""
VISION = {
    "image_size": 224, "layers": 12, "width": 768, "patch_size": 16, "head_width": 64, "mlp_ratio": 4.0,
    "norm_kwargs": None, "act_kwargs": None,
}  # fmt: skip
TEXT = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0,
    "norm_kwargs": None, "act_kwargs": None,
}  # fmt: skip
"""Settings that are read, with open_clip's values of those that a config leaves out."""
FIXED: Mapping[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"), "proj_type": ("linear",), "pos_embed_type": ("learnable",),
    "block_type": (None, "default"),
}  # fmt: skip
"""Settings that may have these values alone; every other one has to be off: null, false or 0."""
NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "logit_scale": "logit_scale",
}
NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
IN_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip
TOGETHER = "attn.in_proj_"
UNUSED = ("attn_mask", "context_length", "input_resolution", "vocab_size")
"""What older files hold beside the weights."""


class OpenCLIPWrapper(CLIPWrapper):
    """A CLIP that is read from open_clip's files; from then on it is one of transformers, also in artifacts."""

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path | None = None,
        quick_gelu: bool | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> CLIPWrapper:
        """Load a directory.

        Args:
            quick_gelu: whether its GELU is x · sigmoid(1.702 x), where the config does not say.

        Raises:
            UserError: as `translated`, and as other checkpoints.
        """
        with translated(_directory(path), quick_gelu) as checkpoint:
            return CLIPWrapper(checkpoint, device, dtype, gradient_checkpointing)

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        """The model of open_clip's config, or of an artifact's files, which are those of transformers."""
        if not (Path(directory) / CONFIG).is_file():
            own: Any = CLIPWrapper.skeleton(directory)
            return own
        with translated(_directory(directory), None, weights=False) as checkpoint:
            found: Any = CLIPWrapper.skeleton(checkpoint)
            return found


@contextmanager
def translated(directory: Path, quick_gelu: bool | None, weights: bool = True) -> Iterator[Path]:
    """A directory for a while with the same model as transformers writes it.

    Args:
        weights: translate them too; without, a `quick_gelu` that is not known is not asked for.

    Raises:
        UserError: a setting that is unknown or that transformers' CLIP lacks, files that are missing, or weights that
            are pickled or of another model.
    """
    content = read_json(directory / CONFIG)
    settings, preparation = (content.get(key) for key in ("model_cfg", "preprocess_cfg"))
    if not isinstance(settings, dict) or not isinstance(preparation, dict):
        raise UserError(f"{directory / CONFIG} lacks model_cfg or preprocess_cfg: it is no config of open_clip.")
    problems = Problems(str(directory / CONFIG))
    config = _config(settings, quick_gelu, problems, asked=weights)
    processor = _processor(preparation, settings, problems)
    found = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    problems.check(
        "tokenizer.json" in found or {"vocab.json", "merges.txt"} <= set(found),
        "there is no tokenizer beside it: put tokenizer.json, or vocab.json and merges.txt, there, as those of CLIP on"
        " the hub.",
    )
    problems.done()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        (place / "config.json").write_text(json.dumps(config))
        (place / "preprocessor_config.json").write_text(json.dumps(processor))
        for name in found:
            shutil.copy(directory / name, place / name)
        if weights:
            save_file(_tensors(directory), place / "model.safetensors", metadata={"format": "pt"})
        yield place


def _directory(path: str | Path | None) -> Path:
    if path is None or not (Path(path) / CONFIG).is_file():
        raise UserError(
            f"model 'open_clip' needs a directory with {CONFIG} and {WEIGHTS}, as model.path=<directory>; it is given"
            f" {path or 'none'}."
        )
    return Path(path)


def _config(settings: Mapping[str, Any], quick_gelu: bool | None, problems: Problems, asked: bool) -> dict[str, Any]:
    """The config.json of the same model."""
    known = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "custom_text"}
    _refuse_others("model_cfg", settings, known, problems)
    said = settings.get("quick_gelu", quick_gelu)
    problems.check(
        isinstance(said, bool) or not (asked or "quick_gelu" in settings),
        "model_cfg.quick_gelu is not said, which is another function of the same weights: OpenAI's and some others need"
        " true, LAION's false. Say it: model=open_clip model.quick_gelu=true|false.",
    )
    problems.check(
        quick_gelu is None or settings.get("quick_gelu", quick_gelu) == quick_gelu,
        f"model_cfg.quick_gelu is {settings.get('quick_gelu')} and model.quick_gelu={quick_gelu} was given.",
    )
    vision, text = (_tower(settings, name, usual, problems) for name, usual in (("vision", VISION), ("text", TEXT)))
    heads, width = vision["head_width"], vision["width"]
    sizes = [settings.get("embed_dim"), heads, width, vision["image_size"], vision["patch_size"]]
    sizes += [text["width"], text["heads"], text["context_length"], text["vocab_size"]]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in sizes)
    problems.check(whole, "a size of model_cfg is missing or no whole number; images are square, patches too.")
    problems.done()
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": settings["embed_dim"],
        "vision_config": {
            **_sizes(vision, said, problems, "vision_cfg"), "num_attention_heads": width // heads,
            "image_size": vision["image_size"], "patch_size": vision["patch_size"],
        },
        "text_config": {
            **_sizes(text, said, problems, "text_cfg"), "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"], "vocab_size": text["vocab_size"],
            "eos_token_id": LEGACY_END,  # the text ends at its highest token, as pool_type argmax says
        },
    }  # fmt: skip


def _tower(settings: Mapping[str, Any], name: str, usual: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    given = settings.get(f"{name}_cfg")
    if not problems.check(isinstance(given, dict), f"model_cfg.{name}_cfg is missing."):
        return dict(usual)
    assert isinstance(given, dict)
    _refuse_others(f"model_cfg.{name}_cfg", given, set(usual), problems)
    return {**usual, **{key: given[key] for key in usual if key in given}}


def _refuse_others(where: str, given: Mapping[str, Any], known: set[str], problems: Problems) -> None:
    """Note every setting that is not read and not off: it makes another model of the same weights."""
    for key in sorted(set(given) - known - set(FREE)):
        allowed = FIXED.get(key, (None, False, 0))
        if given[key] not in allowed:
            problems.check(False, f"{where}.{key} is {given[key]!r}, which CLIP of transformers does not have.")


def _sizes(tower: Mapping[str, Any], quick_gelu: Any, problems: Problems, where: str) -> dict[str, Any]:
    activation, norm = tower["act_kwargs"] or {}, tower["norm_kwargs"] or {}
    approximate = activation.get("approximate") if isinstance(activation, dict) else activation
    sound = isinstance(activation, dict) and set(activation) <= {"approximate"} and approximate in ACTIVATIONS
    problems.check(sound, f"{where}.act_kwargs is {activation!r}; 'approximate' of none or tanh is known.")
    known = isinstance(norm, dict) and set(norm) <= {"eps"}
    problems.check(known, f"{where}.norm_kwargs is {norm!r}; 'eps' alone is known.")
    problems.check(not (quick_gelu and activation), f"{where} has act_kwargs beside quick_gelu.")
    layers = tower["layers"]
    problems.check(
        isinstance(layers, int) and 0 < layers <= limits.layers,
        f"{where}.layers is {layers}; a transformer has a whole number of them (a ResNet is not read).",
    )
    problems.done()
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower["mlp_ratio"]),
        "num_hidden_layers": layers,
        "hidden_act": "quick_gelu" if quick_gelu else ACTIVATIONS[approximate],
        "layer_norm_eps": norm.get("eps", EPSILON),
    }


def _processor(given: Mapping[str, Any], settings: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """The preprocessor_config.json of the same preparation of images."""
    known = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    _refuse_others("preprocess_cfg", given, known, problems)
    vision = settings.get("vision_cfg")
    side = given.get("size", vision.get("image_size") if isinstance(vision, dict) else None)
    side = side[0] if isinstance(side, list) and len(set(side)) == 1 else side
    problems.check(isinstance(side, int), f"preprocess_cfg.size is {side!r}; images are square.")
    for name in ("mean", "std"):
        numbers = given.get(name)
        sound = (
            isinstance(numbers, list) and len(numbers) == 3 and all(isinstance(each, int | float) for each in numbers)
        )
        problems.check(sound, f"preprocess_cfg.{name} is {numbers!r}; it must be three numbers: they are not guessed.")
    problems.check(given.get("mode", "RGB") == "RGB", f"preprocess_cfg.mode is {given.get('mode')!r}; RGB is read.")
    way, how = given.get("interpolation", "bicubic"), given.get("resize_mode", "shortest")
    filters = {"bicubic": 3, "bilinear": 2}
    problems.check(way in filters, f"preprocess_cfg.interpolation is {way!r}; known are {listed(filters)}.")
    problems.check(how in ("shortest", "squash"), f"preprocess_cfg.resize_mode is {how!r}; known are shortest, squash.")
    problems.done()
    square = {"height": side, "width": side}
    return {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
        "do_convert_rgb": True, "rescale_factor": 1 / 255, "resample": filters[way], "image_mean": given["mean"],
        "image_std": given["std"], "size": {"shortest_edge": side} if how == "shortest" else square,
        "do_center_crop": how == "shortest", "crop_size": square,
    }  # fmt: skip


def _tensors(directory: Path) -> dict[str, Tensor]:
    """The weights under the names of transformers.

    Raises:
        UserError: there are none as safetensors, or tensors that no CLIP has.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        pickles = sorted(each.name for pattern in PICKLES for each in directory.glob(pattern))
        held = f"its weights as {listed(pickles)}, a pickle, which can run code" if pickles else "no weights"
        raise UserError(
            f"'{directory}' holds {held}; {WEIGHTS} is read, as the hub has it beside the other. If you trust the"
            " file, write it as safetensors once where open_clip is installed."
        )
    found: dict[str, Tensor] = {}
    strange = []
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                name = key.removeprefix("text.")
                if name.rpartition(".")[2] in UNUSED:
                    continue
                named = _named(name, file.get_tensor(key))
                strange += [] if named else [key]
                found |= named
    except SafetensorError as error:
        raise UserError(f"the weights of '{directory}' could not be read: {path.name}: {error}") from error
    if strange:
        raise UserError(f"'{directory}' holds weights that CLIP of transformers does not have: {listed(strange)}.")
    return found


def _named(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of open_clip under the names of transformers; {} of one that is not known."""
    if name in NAMES:
        if name in ("visual.proj", "text_projection") and tensor.dim() == 2:
            tensor = tensor.T
        return {NAMES[name]: (tensor.reshape(()) if name == "logit_scale" else tensor).contiguous()}
    owner, _, kind = name.rpartition(".")
    if owner in NORMS:
        return {f"{NORMS[owner]}.{kind}": tensor}
    if not (match := BLOCK.fullmatch(name)):
        return {}
    tower, number, rest = ("vision" if match[1] else "text"), match[2], match[3]
    block = f"{tower}_model.encoder.layers.{number}."
    if rest.startswith(TOGETHER) and tensor.shape[0] % 3 == 0:
        kind = rest.removeprefix(TOGETHER)
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{block}self_attn.{each}_proj.{kind}": part.contiguous() for each, part in parts}
    owner, _, kind = rest.rpartition(".")
    return {f"{block}{IN_BLOCK[owner]}.{kind}": tensor} if owner in IN_BLOCK else {}
