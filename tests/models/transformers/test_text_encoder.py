"""model=text_encoder: the embeddings of the library's own states, pooled; files, pairs, prompts, every stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys.checkpoints import bert_tokenizer, save, save_sentences

import rcc
from rcc.errors import UserError
from rcc.models.registry import load_model, load_skeleton
from rcc.models.transformers.text_encoder import SentenceEncoder

TEXTS = ["a photo of the dog", "six", "the digit two is on a red dog in a photo of a cat seven"]
SIZES = {"vocab_size": len(bert_tokenizer()), "max_position_embeddings": 40}
SMALL = SIZES | {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
PROMPTS = {"query": "the digit ", "passage": "photo of "}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentences(tmp_path_factory.mktemp("sentences") / "encoder")


@pytest.fixture
def encoder(directory: Path) -> SentenceEncoder:
    found = load_model("auto", path=directory, device="cpu")
    assert isinstance(found, SentenceEncoder)
    return found


def of_the_library(directory: Path, texts: list[str], longest: int = 12) -> Tensor:
    """The recipe on the model card of every sentence encoder."""
    model = transformers.AutoModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def embedded(model: SentenceEncoder, texts: list[str], prompt: str | None = None) -> Tensor:
    with torch.no_grad():
        return model.outputs(model.prepare(texts=texts, prompt=prompt))["text_embeds"]


def test_embeddings_are_those_of_the_library_pooled(encoder: SentenceEncoder, directory: Path) -> None:
    torch.testing.assert_close(embedded(encoder, TEXTS), of_the_library(directory, TEXTS), atol=1e-6, rtol=0)
    assert encoder.prepare(texts=TEXTS)["input_ids"].shape == (3, 12)  # cut as sentence_bert_config.json says
    assert (encoder.cut(TEXTS), encoder.cut(TEXTS[:2])) == (1, 0)
    assert "the files beside it that its states are pooled" in encoder.notes[0]
    assert not any(name.startswith("pooler") for name, _ in encoder.module.named_parameters())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abcdog 123ñ中", max_size=12), min_size=1, max_size=5))
def test_an_embedding_has_length_1_and_depends_on_its_own_text_alone(directory: Path, texts: list[str]) -> None:
    model = load_once(directory)
    found = embedded(model, texts)
    assert found.shape == (len(texts), 32)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(texts)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:1], embedded(model, texts[:1]), atol=1e-5, rtol=0)


def load_once(directory: Path, _held: dict[Path, SentenceEncoder] = {}) -> SentenceEncoder:  # noqa: B006
    if directory not in _held:
        _held[directory] = load_model("text_encoder", path=directory, device="cpu")  # type: ignore[assignment]
    return _held[directory]


@pytest.mark.parametrize("kind", ["DistilBert", "Roberta", "MPNet"])
def test_other_architectures_without_a_file_of_their_own_are_pooled_by_the_mean(kind: str, tmp_path: Path) -> None:
    config = getattr(transformers, f"{kind}Config")(**SMALL, pad_token_id=0)
    if kind == "DistilBert":
        config = transformers.DistilBertConfig(**SIZES, dim=32, n_layers=1, n_heads=2, hidden_dim=48)
    path = save(tmp_path / "encoder", getattr(transformers, f"{kind}Model"), config, bert_tokenizer())
    model = load_model("text_encoder", path=path, device="cpu")
    assert "no file of sentence-transformers lies beside the weights" in model.notes[0]
    torch.testing.assert_close(embedded(model, TEXTS), of_the_library(path, TEXTS, 32), atol=1e-6, rtol=0)


def test_a_checkpoint_of_a_whole_task_gives_its_states_without_the_head(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL)
    path = save(tmp_path / "encoder", transformers.BertForMaskedLM, config, bert_tokenizer())
    model = load_model("text_encoder", path=path, device="cpu")
    torch.testing.assert_close(embedded(model, TEXTS), of_the_library(path, TEXTS, 40), atol=1e-6, rtol=0)
    rcc.save(model, tmp_path / "artifact", dtype="float32")
    assert torch.equal(embedded(rcc.load(tmp_path / "artifact"), TEXTS), embedded(model, TEXTS))


def test_a_model_of_something_else_is_refused(checkpoint_of: Callable[[str], Path], directory: Path) -> None:
    with pytest.raises(UserError, match=r"holds ViTForImageClassification, which does not make states of texts alone"):
        load_model("text_encoder", path=checkpoint_of("vit"), device="cpu")
    with pytest.raises(UserError, match="needs a path"):
        load_model("text_encoder")
    with pytest.raises(UserError) as error:
        load_model("text_encoder", path=directory, pooling="mean+median", max_length=1, prompt="query", device="cpu")
    assert len(error.value.problems) == 3
    with pytest.raises(UserError, match=r"'text_encoder' reads texts; of the data came images"):
        load_once(directory).prepare(images=[0])


def test_an_artifact_keeps_the_files_and_gives_the_same_bits(tmp_path: Path) -> None:
    path = save_sentences(tmp_path / "encoder", normalise=False, prompts=PROMPTS)
    model = load_model("auto", path=path, device="cpu", pooling="mean+max", prompt="query")
    found = embedded(model, TEXTS)
    assert found.shape == (3, 64)
    assert not torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-2)
    for name, container in (("artifact", "directory"), ("one.rcc", "file")):
        rcc.save(model, tmp_path / name, dtype="float32", container=container)
        again = rcc.load(tmp_path / name)
        assert again.settings == model.settings
        assert torch.equal(embedded(again, TEXTS), found)
    rcc.save(again, tmp_path / "once_more", dtype="float32")
    for file in sorted((tmp_path / "artifact").rglob("*")):
        assert (
            file.is_dir()
            or file.read_bytes() == (tmp_path / "once_more" / file.relative_to(tmp_path / "artifact")).read_bytes()
        )
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes()
    skeleton = load_skeleton("text_encoder", path)
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert [unit.name for unit in skeleton.units()] == [unit.name for unit in model.units()]


def test_prompts_are_put_before_texts_by_name(tmp_path: Path) -> None:
    path = save_sentences(tmp_path / "encoder", prompts=PROMPTS)
    model = load_model("auto", path=path, device="cpu")
    assert "it has the prompts query, passage" in model.notes[1]
    assert (model.prompt_for("query"), model.prompt_for("document")) == ("query", "passage")
    assert torch.equal(embedded(model, ["two"], "query"), embedded(model, ["the digit two"]))
    assert not torch.equal(embedded(model, ["two"]), embedded(model, ["the digit two"]))
    with pytest.raises(UserError, match=r"unknown prompt 'quory'.*query"):
        model.prepare(texts=["two"], prompt="quory")
    usual = load_model("auto", path=path, device="cpu", prompt="passage")
    assert torch.equal(embedded(usual, ["a dog"]), embedded(model, ["a dog"], "passage"))


def test_texts_are_lowered_where_the_files_say_so_and_dot_products_are_warned_of(tmp_path: Path) -> None:
    path = save_sentences(tmp_path / "encoder")
    (path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (path / "config_sentence_transformers.json").write_text('{"similarity_fn_name": "dot"}')
    model = load_model("auto", path=path, device="cpu")
    assert "compared by 'dot'; here they are compared by cosine" in model.notes[1]
    assert torch.equal(embedded(model, ["A Dog"]), embedded(model, ["a dog"]))


def test_the_loss_of_pairs_is_the_cross_entropy_of_each_text_among_the_others(encoder: SentenceEncoder) -> None:
    batch = encoder.prepare(texts=["a dog", "six", "a cat"], pairs=["the dog", "seven", "cat"])
    found = encoder.outputs(batch)
    assert sorted(found) == ["pair_embeds", "text_embeds"]
    similarity = 20 * found["text_embeds"] @ found["pair_embeds"].T
    places = torch.arange(3)
    expected = (F.cross_entropy(similarity, places) + F.cross_entropy(similarity.T, places)) / 2
    torch.testing.assert_close(encoder.loss(batch), expected)


def test_texts_alone_are_learned_from_by_their_halves_and_steps_lower_both_losses(encoder: SentenceEncoder) -> None:
    alone = encoder.prepare(texts=TEXTS)
    pairs = encoder.prepare(texts=TEXTS, pairs=["dog", "digit six", "red two"])
    for batch in (alone, pairs):
        optimiser = torch.optim.Adam(encoder.module.parameters(), lr=1e-3)
        losses = []
        for _ in range(12):
            optimiser.zero_grad()
            loss = encoder.loss(batch)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.7 * losses[0]


def test_the_halves_of_a_text_share_no_token_but_the_first(encoder: SentenceEncoder) -> None:
    from rcc.models.transformers.text_encoder import _halves

    batch = encoder.prepare(texts=TEXTS)
    first, second = (each["attention_mask"] for each in _halves(batch))
    assert torch.equal(first + second, batch["attention_mask"] + F.one_hot(torch.zeros(3, dtype=torch.long), 12))
    assert bool((first.sum(1) >= 1).all() and (second.sum(1) >= 1).all())


def test_every_stage_compresses_it(encoder: SentenceEncoder, tmp_path: Path) -> None:
    batches = [encoder.prepare(texts=TEXTS), encoder.prepare(texts=["a cat", "seven", "one two three four"])]
    assert all(torch.isfinite(encoder.loss(batch)) for batch in batches)
    stages = [
        rcc.NulluProjector(0.7),
        rcc.DARECompressor(0.5),
        rcc.AlphaEditor(num_epochs=1),
        rcc.Quantizer(8),
    ]
    before = embedded(encoder, TEXTS)
    rcc.RCCPipeline(stages, performance_threshold=1e-6).run(encoder, lambda _: 1.0, batches)
    after = embedded(encoder, TEXTS)
    assert not torch.equal(before, after)
    rcc.save(encoder, tmp_path / "artifact", dtype="float32")
    torch.testing.assert_close(embedded(rcc.load(tmp_path / "artifact"), TEXTS), after, atol=1e-5, rtol=0)
    config = json.loads((tmp_path / "artifact/config.json").read_text())
    assert config["architectures"] == ["BertModel"]
