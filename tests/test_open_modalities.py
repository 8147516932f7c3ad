"""Sets without an image go the whole way: splits, batches, calibration, evaluation, the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rcc
from rcc.data.cutting import Cut, cut
from rcc.data.loading import batch_of, prepared
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.classes.classification import ClassificationEvaluator
from rcc.evaluation.efficiency import EfficiencyEvaluator
from rcc.models.own.module import ModuleAdapter

WORDS = ("bad", "good", "fine", "poor", "very", "not")
CLASSES = ("negative", "positive")


class Reader(nn.Module):
    """A bag of words that counts good and bad ones."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(len(WORDS), 8, mode="sum")
        self.head = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.words.weight.zero_()
            self.words.weight[:, 0] = torch.tensor([-1.0, 1, 1, -1, 0, 0])
            self.head.weight.zero_()
            self.head.weight[:, 0] = torch.tensor([-1.0, 1])

    def forward(self, words: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.words(words))}


def reader() -> ModuleAdapter:
    def tokens(texts: list[str]) -> dict[str, torch.Tensor]:
        return {"words": torch.tensor([[WORDS.index(word) for word in text.split()] for text in texts])}

    return ModuleAdapter(Reader(), prepare=tokens)


def reviews() -> Splits:
    """48 different texts of three words, of which the two last of each say the class."""
    texts = [f"{a} {b} {c}" for a in ("very", "not") for b in WORDS for c in ("bad", "good", "fine", "poor")]
    labels = np.array([int("good" in text or "fine" in text) for text in texts])
    return cut("reviews", {"all": Split("all", texts=texts, labels=labels)}, Cut(12, 12, 12, 12), CLASSES)


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filters = nn.Conv1d(1, 8, 5)
        self.head = nn.Linear(8, 2)

    def forward(self, waves: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.filters(waves[:, None]).relu().mean(-1))}


def listener() -> ModuleAdapter:
    """Reads the field 'audio', waveforms of any lengths, cut to 64 samples."""
    return ModuleAdapter(
        Listener(), prepare=lambda audio: {"waves": torch.tensor(np.stack([wave[:64] for wave in audio]))}
    )


def sounds(count: int = 40) -> Splits:
    random = np.random.default_rng(0)
    audio = [random.standard_normal(64 + index).astype(np.float32) for index in range(count)]
    return cut("sounds", {"all": Split("all", audio=audio, labels=np.arange(count) % 2)}, Cut(10, 10, 10, 10), CLASSES)


def test_texts_alone_are_cut_and_never_replaced_by_prompts_of_their_class() -> None:
    splits = reviews()
    assert splits.sizes() == {"train": 12, "calibration": 12, "selection": 12, "test": 12}
    assert len({text for _, split in splits for text in split.texts}) == 48
    assert splits.test.inputs == ("texts",)


def test_a_text_classifier_is_evaluated_by_its_logits() -> None:
    splits, model = reviews(), reader()
    measured = ClassificationEvaluator(batch_size=5).evaluate(model, splits.test, splits)
    expected = [
        int(int((sum((-1, 1, 1, -1, 0, 0)[WORDS.index(word)] for word in text.split())) > 0) == label)
        for text, label in zip(splits.test.texts, splits.test.labels, strict=True)  # type: ignore[arg-type]
    ]
    assert measured.main.value == pytest.approx(sum(expected) / 12)
    assert measured.samples == 12


def test_a_batch_holds_what_the_adapter_reads_and_the_labels() -> None:
    splits = sounds()
    batch = batch_of(listener(), splits.calibration, 2, 5, labels=True)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {"waves": (3, 64), "labels": (3,)}
    assert torch.equal(batch["waves"][0], torch.tensor(splits.calibration.fields["audio"][2][:64]))
    whole = torch.cat([each["waves"] for each in prepared(listener(), splits.test, 4)])
    assert torch.equal(whole, batch_of(listener(), splits.test)["waves"])


def test_the_same_waveform_in_two_splits_is_refused_and_left_out_in_cutting() -> None:
    wave = np.ones(70, np.float32)
    one, two = Split("a", audio=[wave, 2 * wave]), Split("b", audio=[3 * wave, wave])
    with pytest.raises(UserError, match="'a' and 'b' have 1 items in common"):
        rcc.data.splits.check_disjoint([one, two])
    labels = np.zeros(8, np.int64)
    twice = Split("all", audio=[wave * (index % 4) for index in range(8)], labels=labels)
    splits = cut("sounds", {"all": twice}, Cut(2, 2, 2, 2), ("sound",))
    assert sum(splits.sizes().values()) == 4
    assert "items of split" in splits.notes[0]


def test_a_split_without_what_the_model_reads_is_refused_with_both_named() -> None:
    with pytest.raises(UserError, match=r"'bare' reads audio, and split 'test' of the data has texts, labels"):
        batch_of(listener(), reviews().test)
    with pytest.raises(UserError, match=r"split 'test' has no images; its fields are audio, labels"):
        sounds().test.images  # noqa: B018


def test_a_model_of_sounds_is_compressed_by_the_pipeline_and_its_costs_measured() -> None:
    splits, model = sounds(), listener()
    batches = [batch_of(model, splits.calibration, start, start + 5, labels=True) for start in (0, 5)]
    evaluator = ClassificationEvaluator()
    pipeline = rcc.RCCPipeline([rcc.DARECompressor(0.5)], performance_threshold=0.01, on_chance="continue")
    pipeline.run(model, lambda one: evaluator.evaluate(one, splits.selection, splits), batches)
    assert int((model.module.head.weight == 0).sum()) + int((model.module.filters.weight == 0).sum()) >= 28 - 2
    costs = EfficiencyEvaluator(batch_size=4, seconds=0.0).evaluate(model, splits.test, splits)
    assert costs.samples == 4
