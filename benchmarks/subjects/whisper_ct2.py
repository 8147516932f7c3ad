"""Read the Whisper weights of a CTranslate2 model file into transformers' network.

The file: version (u32), name and revision of the specification, number of variables; of each its name, rank, sizes,
type and bytes. Strings have their length (u16) before them. Source: CTranslate2 4,
`python/ctranslate2/specs/model_spec.py`.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
HEAD_WIDTH = 64


def variables(path: Path) -> dict[str, Tensor]:
    """All variables of the file by name, in float32."""
    data = memoryview(path.read_bytes())
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        (found,) = struct.unpack_from("<" + kind, data, place)
        place += struct.calcsize("<" + kind)
        return int(found)

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return bytes(data[place - length : place]).rstrip(b"\0").decode()

    number("I"), text(), number("I")
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, nbytes = np.dtype(TYPES[number("B")]), number("I")
        values = np.frombuffer(data, kind, nbytes // kind.itemsize, place)
        found[name] = torch.from_numpy(values.reshape(shape).astype(np.float32))
        place += nbytes
    return found


def whisper_of(path: Path) -> Any:
    """transformers' WhisperForConditionalGeneration with the weights of an English model, whose head is its table of
    tokens."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    found = variables(path)
    tokens, width = found["decoder/embeddings/weight"].shape
    layers = len({name.split("/")[1] for name in found if re.match(r"encoder/layer_\d", name)})
    end = 50256
    config = WhisperConfig(
        vocab_size=tokens, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=width // HEAD_WIDTH, decoder_attention_heads=width // HEAD_WIDTH,
        encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, decoder_start_token_id=end + 1, bos_token_id=end,
        eos_token_id=end, pad_token_id=end, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    state = renamed(found, layers)
    missing, left = model.load_state_dict(state, strict=False)
    if missing or left:
        raise ValueError(f"{path}: missing {missing}, not known {left}")
    return model.eval()


def renamed(found: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The variables under transformers' names; joined projections are cut. Keys have no bias in Whisper: it is zero."""
    state: dict[str, Tensor] = {}

    def norm(name: str, source: str) -> None:
        state[f"model.{name}.weight"], state[f"model.{name}.bias"] = found[f"{source}/gamma"], found[f"{source}/beta"]

    def layer(name: str, source: str) -> None:
        for part in ("weight", "bias"):
            state[f"model.{name}.{part}"] = found[f"{source}/{part}"]

    def cut(prefix: str, names: tuple[str, ...], source: str) -> None:
        for part in ("weight", "bias"):
            for name, values in zip(names, found[f"{source}/{part}"].chunk(len(names)), strict=True):
                if (name, part) != ("k_proj", "bias"):
                    state[f"model.{prefix}.{name}.{part}"] = values.contiguous()

    for name in ("conv1", "conv2"):
        layer(f"encoder.{name}", f"encoder/{name}")
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = found[f"{side}/position_encodings/encodings"]
        norm(f"{side}.layer_norm", f"{side}/layer_norm")
        for index in range(layers):
            ours, theirs = f"{side}.layers.{index}", f"{side}/layer_{index}"
            cut(f"{ours}.self_attn", ("q_proj", "k_proj", "v_proj"), f"{theirs}/self_attention/linear_0")
            layer(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
            layer(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            layer(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
            if side == "decoder":
                norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
                layer(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
                cut(f"{ours}.encoder_attn", ("k_proj", "v_proj"), f"{theirs}/attention/linear_1")
                layer(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
    state["model.decoder.embed_tokens.weight"] = found["decoder/embeddings/weight"]
    state["proj_out.weight"] = found["decoder/embeddings/weight"]
    return state
