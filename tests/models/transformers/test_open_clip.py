"""open_clip's directories against its own way of computing: the same embeddings, or a refusal by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from toys.open_clip import OpenCLIP, config_of, random_open_clip, save_open_clip
from transformers import CLIPTokenizer

import rcc
from rcc import CLIPEngine, UserError
from rcc.models.auto import choose_model
from rcc.models.transformers.clip import CLIPWrapper

TEXTS = ["a photo of the digit three", "zero", "a photo of the digit nine, and of nothing else"]


@pytest.fixture(scope="module")
def vocabulary(clip_checkpoint: Path) -> int:
    return len(CLIPTokenizer.from_pretrained(clip_checkpoint))


@pytest.fixture
def saved(tmp_path: Path, clip_checkpoint: Path, vocabulary: int) -> Any:
    """Writes a random model, its config changed by a function."""

    def write(change: Any = None, quick_gelu: bool | None = True, name: str = "model") -> Path:
        model = random_open_clip(vocabulary, bool(quick_gelu))
        config = config_of(model, quick_gelu)
        if change is not None:
            change(config)
        return save_open_clip(tmp_path / name, model, config, clip_checkpoint)

    return write


def pixels_of(images: list[Image.Image]) -> torch.Tensor:
    """(N, 3, 32, 32) as open_clip prepares images whose sides are 32: scaled, less the mean, over the deviation."""
    values = torch.stack([torch.from_numpy(np.asarray(image, np.float32) / 255) for image in images])
    return ((values - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])).permute(0, 3, 1, 2)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_embeddings_are_those_of_open_clip(
    saved: Any, quick_gelu: bool, vocabulary: int, clip_checkpoint: Path
) -> None:
    directory, peer = saved(quick_gelu=quick_gelu), random_open_clip(vocabulary, quick_gelu)
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(4)]
    tokenizer = CLIPTokenizer.from_pretrained(clip_checkpoint)
    tokens = [tokenizer(text, truncation=True, max_length=16).input_ids for text in TEXTS]
    padded = torch.tensor([each + [0] * (16 - len(each)) for each in tokens])
    engine = CLIPEngine(directory)
    with torch.no_grad():
        pictures, texts = peer.visual(pixels_of(images)), peer.encode_text(padded)
    np.testing.assert_allclose(engine.encode_image(images, normalize=False), pictures, atol=2e-5)
    np.testing.assert_allclose(engine.encode_text(TEXTS, normalize=False), texts, atol=2e-5)
    assert engine.logit_scale == pytest.approx(3.05, abs=0.2)
    assert engine.config == rcc.CLIPConfig(24, 32, 16)


def test_it_is_told_by_its_files_and_is_a_clip_from_then_on(saved: Any, tmp_path: Path) -> None:
    directory = saved()
    assert choose_model(directory)[0] == "open_clip"
    model = rcc.load_model("auto", path=directory)
    assert (type(model), model.name) == (CLIPWrapper, "clip")
    rcc.save(model, tmp_path / "artifact", dtype="float32")
    again, dense = CLIPEngine(tmp_path / "artifact"), CLIPEngine(directory)
    np.testing.assert_allclose(again.encode_text(TEXTS), dense.encode_text(TEXTS), atol=1e-6)


def test_names_of_a_text_tower_of_its_own_are_read_too(saved: Any) -> None:
    directory = saved(lambda config: config["model_cfg"].update(custom_text=True))
    plain = CLIPEngine(directory).encode_text(TEXTS)
    tensors = load_file(directory / "open_clip_model.safetensors")
    text = ("token_embedding", "positional_embedding", "transformer.", "ln_final", "text_projection")
    renamed = {f"text.{name}" if name.startswith(text) else name: each for name, each in tensors.items()}
    renamed["text.attn_mask"] = torch.zeros(16, 16)
    save_file(renamed, directory / "open_clip_model.safetensors")
    np.testing.assert_array_equal(CLIPEngine(directory).encode_text(TEXTS), plain)


def test_an_activation_that_is_not_said_is_asked_for(saved: Any) -> None:
    directory = saved(quick_gelu=None)
    with pytest.raises(UserError, match=r"quick_gelu is not said.*model\.quick_gelu=true\|false"):
        rcc.load_model("open_clip", path=directory)
    texts = [rcc.load_model("open_clip", path=directory, quick_gelu=said).encode_text(TEXTS) for said in (True, False)]
    assert (texts[0] - texts[1]).abs().max() > 1e-4  # another function of the same weights
    with pytest.raises(UserError, match=r"quick_gelu is True and model\.quick_gelu=False was given"):
        rcc.load_model("open_clip", path=saved(name="said"), quick_gelu=False)


def of(part: str, **settings: Any) -> Any:
    """A change of a part of the config."""

    def change(config: dict[str, Any]) -> None:
        node: Any = config
        for key in part.split("."):
            node[key] = copy.deepcopy(node[key])
            node = node[key]
        node.update(settings)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of("model_cfg.vision_cfg", ls_init_value=1e-5), r"vision_cfg\.ls_init_value is 1e-05, which CLIP"),
        (of("model_cfg.vision_cfg", timm_model_name="vit_base"), r"vision_cfg\.timm_model_name is 'vit_base'"),
        (of("model_cfg.vision_cfg", layers=[3, 4, 6, 3]), r"vision_cfg\.layers is \[3, 4, 6, 3\]"),
        (of("model_cfg.vision_cfg", pool_type="avg"), r"vision_cfg\.pool_type is 'avg'"),
        (of("model_cfg.vision_cfg", act_kwargs={"beta": 3}), r"vision_cfg has act_kwargs|act_kwargs is"),
        (of("model_cfg.text_cfg", hf_model_name="roberta"), r"text_cfg\.hf_model_name is 'roberta'"),
        (of("model_cfg.text_cfg", no_causal_mask=True), r"text_cfg\.no_causal_mask is True"),
        (of("model_cfg.text_cfg", norm_kwargs={"bias": False}), r"text_cfg\.norm_kwargs"),
        (of("model_cfg", init_logit_bias=-10), r"model_cfg\.init_logit_bias is -10"),
        (of("model_cfg", what_nobody_knows=1), r"model_cfg\.what_nobody_knows is 1"),
        (of("preprocess_cfg", mean=None), r"preprocess_cfg\.mean is None; it must be three numbers"),
        (of("preprocess_cfg", interpolation="random"), r"interpolation is 'random'"),
        (of("preprocess_cfg", resize_mode="longest"), r"resize_mode is 'longest'"),
        (lambda config: config.pop("model_cfg"), "lacks model_cfg or preprocess_cfg"),
        (lambda config: config["model_cfg"].pop("embed_dim"), "a size of model_cfg is missing"),
    ],
)
def test_a_setting_that_would_be_guessed_is_refused_by_name(saved: Any, change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rcc.load_model("open_clip", path=saved(change))


def test_settings_of_training_alone_and_those_that_are_off_do_not_matter(saved: Any) -> None:
    off = of("model_cfg.vision_cfg", patch_dropout=0.5, qk_norm=False, ls_init_value=None, pool_type="tok")
    np.testing.assert_array_equal(
        CLIPEngine(saved(off)).encode_text(TEXTS), CLIPEngine(saved(name="plain")).encode_text(TEXTS)
    )


def test_weights_that_are_pickled_missing_or_strange_are_refused(saved: Any, tmp_path: Path) -> None:
    directory = saved()
    weights = directory / "open_clip_model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "visual.adapter.weight": torch.ones(2)}, weights)
    with pytest.raises(UserError, match=r"does not have: visual\.adapter\.weight"):
        rcc.load_model("auto", path=directory)
    save_file({name: each for name, each in tensors.items() if name != "visual.proj"}, weights)
    with pytest.raises(UserError, match=r"lacks the weights visual_projection\.weight"):
        rcc.load_model("auto", path=directory)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="could not be read"):
        rcc.load_model("auto", path=directory)
    weights.rename(directory / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match=r"open_clip_pytorch_model\.bin, a pickle, which can run code"):
        rcc.load_model("auto", path=directory)
    (directory / "tokenizer.json").unlink(missing_ok=True)
    (directory / "vocab.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="there is no tokenizer beside it"):
        rcc.load_model("auto", path=directory)
    with pytest.raises(UserError, match=r"needs a directory with open_clip_config\.json"):
        rcc.load_model("open_clip", path=tmp_path / "nowhere")


def test_the_peer_has_open_clips_names(vocabulary: int) -> None:
    names = set(OpenCLIP(vocabulary).state_dict())
    assert {"visual.transformer.resblocks.0.attn.in_proj_weight", "visual.proj", "text_projection"} <= names
