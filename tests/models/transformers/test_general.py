"""Architectures without an adapter of their own: what they read, what counts as output, losses, artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from toys.checkpoints import bert_tokenizer, save
from toys.language import bert_config, llama_config, whisper

import rcc
from rcc.data.loading import batch_of
from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.models.registry import load_model, load_skeleton
from rcc.stages.quant import Quantizer

TEXTS = ["a photo of one dog", "two", "cat in red"]
RANDOM = np.random.default_rng(0)
FIELDS: dict[str, Any] = {
    "images": [Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(3)],
    "texts": TEXTS,
    "audio": [RANDOM.normal(size=4000 + 100 * index).astype(np.float32) for index in range(3)],
}


def sized(config: Any) -> Any:
    config.vocab_size = len(bert_tokenizer())
    return config


def resnet_config() -> Any:
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    return transformers.ResNetConfig(**sizes, num_labels=3, id2label={0: "cat", 1: "dog", 2: "bird"})


def t5_config() -> Any:
    return transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)


def extractor() -> Any:
    return transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1, hop_length=400, n_fft=400)


KINDS: dict[str, Any] = {
    "classifier": lambda: (transformers.BertForSequenceClassification, sized(bert_config(num_labels=3)),
                           bert_tokenizer()),
    "llama": lambda: (transformers.LlamaForCausalLM, sized(llama_config()), bert_tokenizer()),
    "resnet": lambda: (transformers.ResNetForImageClassification, resnet_config(),
                       transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0)),
    "t5": lambda: (transformers.T5ForConditionalGeneration, sized(t5_config()), bert_tokenizer()),
    "whisper": lambda: (transformers.WhisperForConditionalGeneration, sized(whisper().config), bert_tokenizer(),
                        extractor()),
}  # fmt: skip
READ = {
    "classifier": (["texts"], ["attention_mask", "input_ids", "token_type_ids"], (3, 3)),
    "llama": (["texts"], ["attention_mask", "input_ids"], (3, 7, 80)),
    "resnet": (["images"], ["pixel_values"], (3, 3)),
    "t5": (["texts"], ["attention_mask", "decoder_input_ids", "input_ids"], (3, 7, 80)),
    "whisper": (["texts", "audio"], ["decoder_input_ids", "input_features"], (3, 7, 80)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fields_become_inputs_and_an_artifact_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoint", *KINDS[kind]())
    model = load_model("transformers", path=path, device="cpu")
    fields, names, shape = READ[kind]
    assert sorted(set(model.reads) & FIELDS.keys()) == sorted(fields)
    batch = batch_of(model, Split("test", **{name: FIELDS[name] for name in fields}, labels=np.array([0, 1, 2])))
    assert sorted(batch) == names
    assert {name: tuple(each.shape) for name, each in model.outputs(batch).items()} == {"logits": shape}
    assert torch.isfinite(model.loss({**batch, "labels": torch.arange(3)} if len(shape) == 2 else batch))
    skeleton = load_skeleton("transformers", path)
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert [unit.name for unit in skeleton.units()] == [unit.name for unit in model.units()]
    pipeline = rcc.RCCPipeline([rcc.DARECompressor(0.5), Quantizer(4)], performance_threshold=1e-6)
    pipeline.run(model, lambda _: 1.0, [batch])
    rcc.save(model, tmp_path / "artifact", dtype="float32")
    again = rcc.load(tmp_path / "artifact")
    prepared = again.prepare(**{name: FIELDS[name] for name in fields})
    assert torch.equal(again.outputs(prepared)["logits"], model.outputs(batch)["logits"])
    rcc.save(again, tmp_path / "once_more", dtype="float32")
    for name in ("config.json", "weights.safetensors"):
        assert (tmp_path / "once_more" / name).read_bytes() == (tmp_path / "artifact" / name).read_bytes()


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return save(tmp_path / "encoder", transformers.BertModel, sized(bert_config()), bert_tokenizer())


def test_a_pooling_that_is_named_is_kept_with_the_artifact(encoder: Path, tmp_path: Path) -> None:
    model = load_model("auto", path=encoder, device="cpu", pooling="mean")
    own = transformers.BertModel.from_pretrained(encoder).eval()
    tokens = bert_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = own(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        expected = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        torch.testing.assert_close(model.outputs(model.prepare(texts=TEXTS)), {"text_embeds": expected})
    rcc.save(model, tmp_path / "artifact", dtype="float32")
    assert rcc.load(tmp_path / "artifact").pooling == "mean"
    plain = load_model("auto", path=encoder, device="cpu", output="pooler_output")
    assert list(plain.outputs(plain.prepare(texts=TEXTS))) == ["pooler_output"]
    rcc.save(plain, tmp_path / "plain", dtype="float32")
    loaded = rcc.load(tmp_path / "plain")
    assert (loaded.pooling, loaded.output) == (None, ("pooler_output",))
    with pytest.raises(UserError, match=r"model.pooling is 'median'; it must be mean, first, last, max, .* or null"):
        load_model("auto", path=encoder, device="cpu", pooling="median")


def test_states_of_padding_are_zero_and_a_wrong_output_lists_what_there_is(encoder: Path) -> None:
    model = load_model("transformers", path=encoder, device="cpu", max_length=5)
    batch = model.prepare(texts=TEXTS)
    assert batch["input_ids"].shape == (3, 5)
    states = model.outputs(batch)["last_hidden_state"]
    assert bool((states[batch["attention_mask"] == 0] == 0).all())
    wrong = load_model("transformers", path=encoder, device="cpu", output="logits")
    with pytest.raises(
        UserError, match=r"'logits' was asked for and BertModel gives last_hidden_state .*pooler_output"
    ):
        wrong.outputs(batch)


def test_data_without_what_the_forward_takes_is_told_with_both(encoder: Path, tmp_path: Path) -> None:
    (encoder / "tokenizer.json").unlink()
    (encoder / "tokenizer_config.json").unlink()
    model = load_model("transformers", path=encoder, device="cpu")
    with pytest.raises(
        UserError, match=r"BertModel takes input_ids.*of the data came texts\. Texts become tokens where"
    ):
        model.prepare(texts=TEXTS)
    assert model.prepare(input_ids=[[1, 2], [3, 4]])["input_ids"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match=r"did not take the batch of attention_mask: .*Its forward takes input_ids"):
        model.outputs({"attention_mask": torch.ones(2, 3, dtype=torch.long)})
    speech = load_model("transformers", path=save(tmp_path / "speech", *KINDS["whisper"]()), device="cpu")
    with pytest.raises(UserError, match=r"audio: item 1 has shape \[2, 10\]; it must be a waveform of one channel"):
        speech.prepare(audio=[np.zeros(10), np.zeros((2, 10))])


def test_no_code_of_a_checkpoint_is_named_and_contradictions_are_told(encoder: Path) -> None:
    content = json.loads((encoder / "config.json").read_text())

    def refused(match: str, **changed: Any) -> None:
        (encoder / "config.json").write_text(json.dumps({**content, **changed}))
        with pytest.raises(UserError, match=match):
            load_skeleton("transformers", encoder)

    refused(r"holds OwnModel, which this version .* does not have.*code of its own \(auto_map\), which is never run",
            architectures=["OwnModel"], auto_map={"AutoModel": "own.OwnModel"})  # fmt: skip
    refused(r"holds BertModle,.*Did you mean 'BertModel'", architectures=["BertModle"])
    refused("holds PretrainedConfig", architectures=["PretrainedConfig"])
    refused(r"contradicts itself: .*'bert', and model_type is 'gpt2'", model_type="gpt2")
    refused("names several architectures", architectures=["BertModel", "BertForMaskedLM"])
    refused(r"neither architectures nor a model_type that transformers knows \('brt'\)", architectures=None,
            model_type="brt")  # fmt: skip
    refused("num_hidden_layers is 5000", num_hidden_layers=5000)
    refused("encoder_layers is 5000; it must be at most 1024", encoder_layers=5000)
    refused("d_ff is 1000000000; it must be at most", d_ff=10**9)
    refused("type_vocab_size is 1000000000; it must be at most", type_vocab_size=10**9)
    (encoder / "config.json").write_text(json.dumps({**content, "architectures": None}))
    assert type(load_skeleton("transformers", encoder).module).__name__ == "BertModel"
