"""Images: decoded when asked for, whatever their mode, named in errors, told apart by what is stored."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcc.data.files.images import ArrayImages, EncodedImages
from rcc.errors import UserError
from rcc.limits import limits


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{grey}.png" for grey in (10, 20, 30)]
    for path in paths:
        path.write_bytes(encoded(Image.new("RGB", (5, 4), (int(path.stem), 0, 255))))
    return paths


def test_arrays_come_back_as_they_are() -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    images = ArrayImages(array)
    assert len(images) == 3
    assert all((np.asarray(image) == pixels).all() for image, pixels in zip(images, array, strict=True))
    assert (np.asarray(images[-1]) == array[2]).all()
    with pytest.raises(IndexError):
        images[3]


def test_arrays_of_another_kind_are_refused() -> None:
    with pytest.raises(UserError, match=r"float32 of shape \(2, 4, 4\); they must be uint8"):
        ArrayImages(np.zeros((2, 4, 4), np.float32))  # type: ignore[arg-type]


def test_a_slice_is_images_again_and_decodes_nothing(files: list[Path]) -> None:
    images = EncodedImages.of_files(files)
    part = images[::-1][:2]
    files[0].unlink()
    assert [image.getpixel((0, 0)) for image in part] == [(30, 0, 255), (20, 0, 255)]
    assert [part.name(index) for index in range(2)] == [str(files[2]), str(files[1])]
    assert (np.asarray(part.subset(np.array([1]))[0]) == np.asarray(part[1])).all()


def test_digests_are_those_of_the_files(files: list[Path]) -> None:
    expected = [hashlib.sha256(path.read_bytes()).digest() for path in files]
    assert EncodedImages.of_files(files).digests() == expected
    assert EncodedImages.of_files(files)[1:].digests() == expected[1:]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = EncodedImages(["it"], lambda index: encoded(Image.new(mode, (3, 2)), kind))[0]
    assert image.mode == "RGB"
    assert image.size == (3, 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_is_named(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    images = EncodedImages(["folder/dog.jpg"], lambda index: whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"'folder/dog\.jpg' cannot be decoded .*data\.unreadable=skip"):
        images[0]


def test_a_text_file_is_no_image() -> None:
    with pytest.raises(UserError, match=r"'notes\.txt' cannot be decoded"):
        EncodedImages(["notes.txt"], lambda index: b"hello")[0]


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA"])
def test_what_is_no_raster_format_of_the_list_is_refused_without_an_objects_address(kind: str) -> None:
    with pytest.raises(
        UserError, match=r"'it' cannot be decoded \(it is none of JPEG, PNG, .*begins with b"
    ) as refused:
        EncodedImages(["it"], lambda index: encoded(Image.new("RGB", (32, 32)), kind))[0]
    assert "0x" not in str(refused.value)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = encoded(Image.new("1", (1000, 1000)))
    images = EncodedImages(["bomb.png"], lambda index: stored)
    monkeypatch.setattr(limits, "image_pixels", 999_999)
    with pytest.raises(UserError, match=r"'bomb\.png' has 1000 × 1000 pixels and at most 999999.*limits\.image_pixels"):
        images[0]
    monkeypatch.setattr(limits, "image_pixels", 10**6)
    assert images[0].size == (1000, 1000)


def test_a_thin_image_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = encoded(Image.new("1", (3, 769)))
    images = EncodedImages(["thin.png"], lambda index: stored)
    with pytest.raises(UserError, match=r"'thin\.png' has 3 × 769 pixels: .*more than 256 times.*limits\.image_aspect"):
        images[0]
    monkeypatch.setattr(limits, "image_aspect", 257)
    assert images[0].size == (3, 769)


def test_only_regular_files_up_to_a_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "sound.png").write_bytes(encoded(Image.new("RGB", (3, 2))))
    for name in ("fifo.png", "zero.png"):
        with pytest.raises(UserError, match=rf"{name} is no regular file"):
            EncodedImages.of_files([tmp_path / name]).digests()
    monkeypatch.setattr(limits, "image_bytes", 10)
    with pytest.raises(UserError, match=r"sound\.png has \d+ bytes and at most 10 are read.*limits\.image_bytes"):
        EncodedImages.of_files([tmp_path / "sound.png"])[0]


def test_a_file_that_went_away_is_named(files: list[Path]) -> None:
    images = EncodedImages.of_files(files)
    files[1].unlink()
    with pytest.raises(UserError, match=r"20\.png' cannot be read: .*No such file"):
        images[1]


def test_digests_keep_their_order_over_many_blocks() -> None:
    stored = [b"%d" % number for number in range(200)]
    images = EncodedImages([str(number) for number in range(200)], stored.__getitem__)[::-1]
    assert images.digests() == [hashlib.sha256(each).digest() for each in reversed(stored)]
