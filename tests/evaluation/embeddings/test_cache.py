"""The embedding cache: what is encoded once, what makes it encode again, and what it keeps on disk."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rcc.data.files.images import ArrayImages
from rcc.data.sets.digits import load_digits
from rcc.data.splits import Split, Splits
from rcc.errors import UserError, WorkError
from rcc.evaluation.embeddings.cache import EmbeddingCache
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper

TEXTS = ["a photo of the digit seven", "zero", "a handwritten two", "zero", "this is the digit one", "zero"]


@pytest.fixture(scope="module")
def few() -> Splits:
    return load_digits(train=10, calibration=10, selection=20, test=30)


@pytest.fixture
def encoded(clip: CLIPWrapper, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many images and texts went through `clip` so far."""
    return counting(clip, monkeypatch)


def counting(clip: CLIPWrapper, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    counts = {"images": 0, "texts": 0}
    outputs = clip.outputs

    def counted(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        counts["images"] += len(batch.get("pixel_values", ()))
        counts["texts"] += len(batch.get("input_ids", ()))
        return outputs(batch)

    monkeypatch.setattr(clip, "outputs", counted)
    return counts


def test_embeddings_are_the_models_own_in_order(clip: CLIPWrapper, few: Splits) -> None:
    cache = EmbeddingCache(batch_size=7)
    torch.testing.assert_close(cache.images(clip, few.test), clip.encode_image(list(few.test.images)))
    torch.testing.assert_close(cache.texts(clip, TEXTS), torch.cat([clip.encode_text(text) for text in TEXTS]))


def test_a_text_that_repeats_is_encoded_once(clip: CLIPWrapper, encoded: dict[str, int]) -> None:
    found = EmbeddingCache().texts(clip, TEXTS)
    assert encoded["texts"] == 4
    assert torch.equal(found[1], found[3])
    assert torch.equal(found[1], found[5])


def test_texts_of_similar_length_share_a_batch(clip: CLIPWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    prepare = clip.prepare
    monkeypatch.setattr(clip, "prepare", lambda **inputs: given.append(inputs["texts"]) or prepare(**inputs))
    EmbeddingCache(batch_size=2).texts(clip, TEXTS)
    assert given == [["zero", "a handwritten two"], ["this is the digit one", "a photo of the digit seven"]]


def test_the_same_is_encoded_once_whoever_asks(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, twin = EmbeddingCache(), deepcopy(clip)
    twins = counting(twin, monkeypatch)
    relabelled = Split("other", few.test.images, captions=(("a",),) * len(few.test))
    first = cache.images(clip, few.test)
    assert torch.equal(cache.images(twin, relabelled), first)
    assert (encoded["images"], twins["images"]) == (30, 0)


def swap_two_weights(clip: CLIPWrapper) -> None:
    clip.module.visual_projection.weight.data[:, :2] = clip.module.visual_projection.weight.data[:, [1, 0]]


def cast(clip: CLIPWrapper) -> None:
    clip.module.bfloat16()


def other_pixels(clip: CLIPWrapper) -> None:
    clip.image_processor.image_mean = [0.0, 0.0, 0.0]


def another_buffer(clip: CLIPWrapper) -> None:
    clip.module.register_buffer("extra", torch.ones(1), persistent=False)


@pytest.mark.parametrize("change", [swap_two_weights, cast, other_pixels, another_buffer])
def test_what_changes_the_model_makes_it_encode_again(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], tmp_path: Path, change: Callable[[CLIPWrapper], None]
) -> None:
    cache = EmbeddingCache(directory=tmp_path)
    cache.images(clip, few.test)
    change(clip)
    expected = F.normalize(clip.encode_image(list(few.test.images)).float(), dim=-1)
    torch.testing.assert_close(cache.images(clip, few.test), expected)
    assert encoded["images"] == 30 + 30 + 30  # the last 30 by this test itself


def test_other_images_or_another_order_are_other_data(clip: CLIPWrapper, few: Splits, encoded: dict[str, int]) -> None:
    cache = EmbeddingCache()
    found = cache.images(clip, few.test)
    backwards = few.test.subset(np.arange(30)[::-1].copy())
    torch.testing.assert_close(cache.images(clip, backwards), found.flip(0))
    cache.images(clip, few.selection)
    assert encoded["images"] == 30 + 30 + 20


def test_pixels_outlive_the_weights_and_serve_every_model_with_the_same_processor(
    clip: CLIPWrapper, few: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, twin, prepared = EmbeddingCache(), deepcopy(clip), []
    swap_two_weights(twin)
    for each in (clip, twin):
        prepare = each.prepare
        monkeypatch.setattr(each, "prepare", lambda prepare=prepare, **raw: prepared.append(raw) or prepare(**raw))
    assert not torch.equal(cache.images(clip, few.test), cache.images(twin, few.test))
    assert len(prepared) == 1


@pytest.mark.parametrize(("megabytes", "times"), [(0.0, 2), (1.0, 1)])
def test_memory_has_a_limit(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], megabytes: float, times: int
) -> None:
    cache = EmbeddingCache(megabytes=megabytes)
    first = cache.images(clip, few.test)
    assert torch.equal(cache.images(clip, few.test), first)
    assert encoded["images"] == 30 * times


def test_a_directory_keeps_embeddings_for_the_next_process(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], tmp_path: Path
) -> None:
    first = [(cache.images(clip, few.test), cache.texts(clip, TEXTS)) for cache in [EmbeddingCache(directory=tmp_path)]]
    again = [(cache.images(clip, few.test), cache.texts(clip, TEXTS)) for cache in [EmbeddingCache(directory=tmp_path)]]
    assert all(torch.equal(a, b) for a, b in zip(first[0], again[0], strict=True))
    assert encoded == {"images": 30, "texts": 4}
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    EmbeddingCache(batch_size=3, directory=tmp_path).images(clip, few.test)
    assert encoded["images"] == 60  # its last bits may differ


def damage_a_number(path: Path) -> None:
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors["embeddings"][0, 0] += 1
    save_file(tensors, path, metadata=about)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_a_number, cut_short, empty])
def test_a_damaged_file_is_written_anew(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first = EmbeddingCache(directory=tmp_path).images(clip, few.test)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    damage(path)
    assert torch.equal(EmbeddingCache(directory=tmp_path).images(clip, few.test), first)
    assert encoded["images"] == 60
    assert path.read_bytes() == whole


def test_a_model_whose_inputs_only_the_caller_knows_is_not_kept_on_disk(few: Splits, tmp_path: Path) -> None:
    def means(images: object, texts: object) -> dict[str, Tensor]:
        return {"input": torch.stack([torch.tensor(np.asarray(image)).float().mean((0, 1)) for image in images])}

    def negative(images: object, texts: object) -> dict[str, Tensor]:
        return {"input": -means(images, texts)["input"]}

    torch.manual_seed(0)
    module = nn.Linear(3, 4, bias=False)
    cache = EmbeddingCache(directory=tmp_path)
    one, other = (
        ModuleAdapter(module, prepare=way, outputs=lambda batch: {"image_embeds": module(batch["input"])})
        for way in (means, negative)
    )
    assert torch.equal(cache.images(one, few.test), -cache.images(other, few.test))
    assert not list(tmp_path.iterdir())


def test_bad_input_is_refused(clip: CLIPWrapper, few: Splits) -> None:
    with pytest.raises(UserError) as error:
        EmbeddingCache(batch_size=0, megabytes=-1)
    assert len(error.value.problems) == 2
    with pytest.raises(UserError, match="no texts"):
        EmbeddingCache().texts(clip, [])


def test_embeddings_that_are_not_finite_are_not_kept(clip: CLIPWrapper, few: Splits, tmp_path: Path) -> None:
    clip.module.visual_projection.weight.data[0, 0] = float("nan")
    with pytest.raises(WorkError, match="image_embeds hold NaN"):
        EmbeddingCache(directory=tmp_path).images(clip, few.test)
    assert not list(tmp_path.iterdir())


def test_the_training_mode_is_put_back_after_an_error(clip: CLIPWrapper) -> None:
    clip.module.train()
    broken = Split("test", ArrayImages(np.zeros((1, 2, 2, 3), np.uint8)))
    clip.module.visual_projection.weight.data.fill_(float("nan"))
    with pytest.raises(WorkError):
        EmbeddingCache().images(clip, broken)
    assert clip.module.training


def test_a_directory_that_cannot_be_used_is_refused_before_anything_is_encoded(
    clip: CLIPWrapper, few: Splits, encoded: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot write .*file.*Choose a folder you may write to"):
            EmbeddingCache(directory=place).images(clip, few.test)
    assert encoded == {"images": 0, "texts": 0}
