"""model=auto: config.json first, the name second, a conflict said aloud."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toys.checkpoints import bert_tokenizer, save
from toys.language import bert_config
from transformers import BertModel

from rcc.errors import UserError
from rcc.models.auto import choose_model
from rcc.models.registry import load_model
from rcc.models.transformers.clip import CLIPWrapper


def folder(tmp_path: Path, name: str, **config: object) -> Path:
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps(config))
    return tmp_path / name


@pytest.mark.parametrize("name", ["blip", "blip_retrieval", "clip", "clip_vision", "siglip", "vit"])
def test_an_architecture_with_an_adapter_of_its_own_is_loaded_by_it(
    name: str, checkpoint_of: Callable[[str], Path]
) -> None:
    found, reason = choose_model(checkpoint_of(name))
    assert found == name
    assert reason.startswith(f"model=auto takes model={name}: config.json says ")


@pytest.mark.parametrize(
    ("called", "config", "expected"),
    [
        ("anything", {"architectures": ["BertModel"], "model_type": "bert"}, "transformers"),
        ("anything", {"architectures": ["One", "Two"]}, "transformers"),
        ("anything", {"model_type": "clip"}, "clip"),
        ("anything", {"model_type": "blip"}, "blip"),
        ("blip-itm-base", {"model_type": "blip"}, "blip_retrieval"),
        ("anything", {"model_type": "roberta"}, "transformers"),
        ("my-clip-vit", {}, "clip"),
        ("blip_retrieval", {}, "blip_retrieval"),
    ],
)
def test_the_name_decides_where_the_config_is_silent(
    called: str, config: dict[str, object], expected: str, tmp_path: Path
) -> None:
    found, sentence = choose_model(folder(tmp_path, called, **config))
    assert found == expected
    assert "WARNING" not in sentence


def test_files_and_names_of_sentence_encoders_are_seen(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    found, sentence = choose_model(checkpoint_of("text_encoder"))
    assert found == "text_encoder"
    assert "config.json says BertModel, and the files beside it that its states are pooled" in sentence
    named = {"architectures": ["BertModel"], "model_type": "bert"}
    found, sentence = choose_model(folder(tmp_path, "multilingual-e5-small", **named))
    assert (found, "its name says 'e5'" in sentence) == ("text_encoder", True)
    labelled = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    assert choose_model(folder(tmp_path, "bge-reranker", **labelled))[0] == "transformers"
    lying = folder(tmp_path, "tower", architectures=["CLIPModel"])
    (lying / "modules.json").write_text("[]")
    found, sentence = choose_model(lying)
    assert found == "clip"
    assert "WARNING: files of sentence-transformers beside it say that its states are pooled" in sentence


def test_a_name_that_says_another_kind_is_warned_of(tmp_path: Path) -> None:
    path = folder(tmp_path, "siglip-base", architectures=["CLIPVisionModelWithProjection"])
    assert choose_model(path) == (
        "clip_vision",
        "model=auto takes model=clip_vision: config.json says CLIPVisionModelWithProjection. WARNING:"
        f" '{path}' is called after 'siglip'; if its name is right, name the model= yourself.",
    )
    assert "WARNING" not in choose_model(folder(tmp_path, "bert-whisper", architectures=["BertModel"]))[1]


def test_what_says_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a path: model.path=<directory>"):
        choose_model(None)
    with pytest.raises(UserError, match="neither architectures nor model_type, and its name says no kind"):
        choose_model(folder(tmp_path, "anything"))
    (tmp_path / "vit-b").mkdir()
    (tmp_path / "vit-b" / "net.safetensors").touch()
    with pytest.raises(UserError, match=r"no config.json.*holds net.safetensors.*says 'vit'.*net.safetensors\."):
        choose_model(tmp_path / "vit-b")
    with pytest.raises(UserError, match="does not exist"):
        choose_model(tmp_path / "nowhere")


def test_it_loads_and_says_what_it_took(clip_checkpoint: Path, tmp_path: Path) -> None:
    model = load_model("auto", path=clip_checkpoint, device="cpu")
    assert isinstance(model, CLIPWrapper)
    assert model.notes == ("model=auto takes model=clip: config.json says CLIPModel.",)
    with pytest.raises(UserError, match="model 'clip': unknown option 'pooling'"):
        load_model("auto", path=clip_checkpoint, device="cpu", pooling="mean")
    config = bert_config()
    config.vocab_size = len(bert_tokenizer())
    path = save(tmp_path / "encoder", BertModel, config, bert_tokenizer())
    assert load_model("auto", path=path, device="cpu").name == "transformers"
    silent = tmp_path / "clip-without-a-word"
    shutil.copytree(clip_checkpoint, silent)
    content = json.loads((silent / "config.json").read_text())
    (silent / "config.json").write_text(json.dumps({**content, "architectures": None}))
    assert isinstance(load_model("auto", path=silent, device="cpu"), CLIPWrapper)
