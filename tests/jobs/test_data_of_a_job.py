"""What a job says of its data: what was left out of the splits, and what is wrong with the files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Eight images of each of two classes; one of them cannot be decoded."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(8):
            noise = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{number}.png")
    (tmp_path / "pets" / "cat" / "3.png").write_bytes(b"no image")
    return tmp_path / "pets"


def job(folder):
    sizes = ("data.train=0", "data.calibration=4", "data.selection=4", "data.test=8")
    return ("job=evaluate", "data=image_folder", f"data.path={folder}", *sizes)


def test_images_left_out_are_listed(rcc_run, folder):
    code, out, err = rcc_run(*job(folder), "data.unreadable=skip")
    assert (code, err) == (0, "")
    (note,) = [line for line in out.splitlines() if line.startswith("data: ")]
    assert note.startswith("data: 1 images of split '")
    assert "cat/3.png" in note


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data=imagenet",), "data 'imagenet' needs the place of its files: give data.path=<folder>."),
        (("data=imagenet", "data.path=pets"), "'pets' is not laid out as ImageNet."),
        (("data=cifar10", "data.path=pest"), "data.path=pest does not exist. Did you mean 'pets'?"),
        (("data=image_text", "data.path=pets"), "'pets' holds no caption file"),
        (("data=image_folder", "data.path=pets"), "part 'all' has 16 images"),
    ],
)
def test_files_of_another_kind_end_the_job_with_one_sentence(rcc_run, folder, arguments, said):
    code, _, err = rcc_run("job=evaluate", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
