"""What is wrong with files that a command names: exit code 2, what was found, and what to do."""

import io
import json
import shutil

import pytest
from PIL import Image
from toys.data_sets import write_classes, write_csv, write_flickr8k, write_karpathy, write_pets
from toys.files import captions_of, picture, write_table

QUICK = ("job=evaluate", "threads=1", "device=cpu")
PETS = ("model=clip_tiny", "data=image_folder", "data.path=pets", "data.calibration=4", "data.selection=4")
CAPTIONED = ("model=clip_tiny", "data.calibration=3", "data.selection=3", "eval=retrieval")


@pytest.fixture
def refused(rcc_run, tmp_path):
    """Runs an evaluation that must be refused; returns the message."""

    def run(*arguments):
        code, _, err = rcc_run(*QUICK, *arguments, f"hydra.run.dir=refused-{len(list(tmp_path.iterdir()))}")
        assert code == 2, err
        assert "Traceback" not in err
        assert not list(tmp_path.rglob("evaluation.json"))
        return err

    return run


def test_a_folder_that_is_not_shaped_as_imagenet(refused, tmp_path):
    write_pets(tmp_path / "pets", 2)
    said = refused("data=imagenet", "data.path=pets")
    assert "'pets' is not laid out as ImageNet. Expected: train/<wnid>/*.JPEG" in said
    assert "Found: 'big_dog/', 'cat/'" in said
    assert "data=image_folder" in said


def test_an_unknown_wnid(refused, tmp_path):
    write_classes(tmp_path / "some", 1)
    (tmp_path / "some/n99999999").mkdir()
    assert "1 of 6 folders in 'some' are not among the 1,000" in refused("data=imagenet", "data.path=some")


def test_captions_without_images_and_images_without_captions(refused, rcc_run, tmp_path):
    write_karpathy(tmp_path / "coco")
    (tmp_path / "coco/train2014/0001.jpg").unlink()
    (tmp_path / "coco/val2014/9999.jpg").write_bytes(picture(9999))
    coco = (*CAPTIONED, "data=coco", "data.path=coco")
    said = refused(*coco)
    assert "1 captioned images are not in 'coco': 'train2014/0001.jpg'" in said
    assert "1 images in 'coco' have no caption: 'val2014/9999.jpg'" in said
    assert said.count("data.unpaired=skip") == 2
    code, out, err = rcc_run(*QUICK, *coco, "data.unpaired=skip", "hydra.run.dir=run")
    assert code == 0, err
    assert out.count("they were left out") == 2


def test_an_image_of_a_retrieval_set_without_a_caption(refused, rcc_run, tmp_path):
    columns = {"image": [picture(number) for number in range(9)], "captions": [captions_of(n) for n in range(8)] + [[]]}
    write_table(tmp_path / "flickr8k/test.parquet", columns)
    flickr8k = (*CAPTIONED, "data=flickr8k", "data.path=flickr8k")
    said = refused(*flickr8k)
    assert "1 images have no caption: 'image (row 8 of test)'" in said
    assert "data.unpaired=skip" in said
    code, out, err = rcc_run(*QUICK, *flickr8k, "data.unpaired=skip", "data.test=2", "hydra.run.dir=run")
    assert code == 0, err
    assert "1 images have no caption: 'image (row 8 of test)'; they were left out." in out


def test_a_truncated_image_is_refused_by_name_or_skipped_and_listed(refused, rcc_run, tmp_path):
    write_pets(tmp_path / "pets", 6)
    for animal in ("big_dog", "cat"):
        (tmp_path / f"pets/{animal}/deeper/5.jpg").write_bytes(picture(5)[:60])
    said = refused(*PETS, "data.calibration=1", "data.selection=1")
    assert "5.jpg' cannot be decoded" in said
    assert "data.unreadable=skip" in said
    code, out, err = rcc_run(*QUICK, *PETS, "data.unreadable=skip", "hydra.run.dir=run")
    assert code == 0, err
    assert "cannot be decoded and were left out" in out


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_images_of_four_channels_and_of_one_are_measured(rcc_run, tmp_path, mode):
    write_pets(tmp_path / "pets", 6)
    for animal in ("big_dog", "cat"):
        for file in (tmp_path / "pets" / animal).rglob("*.*"):
            buffer = io.BytesIO()
            Image.open(file).convert(mode).save(buffer, "JPEG")
            file.write_bytes(buffer.getvalue())
    code, _, err = rcc_run(*QUICK, *PETS, "hydra.run.dir=run")
    assert code == 0, err


def test_an_empty_split(refused, tmp_path):
    write_flickr8k(tmp_path / "flickr8k")
    assert "selection is 0" in refused(*CAPTIONED, "data=flickr8k", "data.path=flickr8k", "data.selection=0")
    write_pets(tmp_path / "pets", 1)
    said = refused("data=image_folder", "data.path=pets", "data.calibration=1", "data.selection=1")
    assert "has 2 images, and 0 test + 1 selection + 1 calibration" in said


def test_captions_of_an_empty_file(refused, tmp_path):
    (tmp_path / "images").mkdir()
    write_csv(tmp_path / "captions.csv", [])
    said = refused(*CAPTIONED, "data=image_text", "data.path=captions.csv")
    assert "no line of 'captions.csv' names an image" in said


def test_a_processor_that_does_not_fit_the_model(refused, tmp_path, checkpoint_of):
    shutil.copytree(checkpoint_of("vit"), tmp_path / "vit")
    settings = json.loads((tmp_path / "vit/preprocessor_config.json").read_text())
    settings["size"] = {"height": 24, "width": 24}
    (tmp_path / "vit/preprocessor_config.json").write_text(json.dumps(settings))
    said = refused("model=vit", "model.path=vit", "data=digits", "eval=classification")
    assert "makes pixels of 3 × 24 × 24 and the model takes 3 × 32 × 32" in said


def test_a_hub_that_cannot_be_reached_is_told_at_once(refused):
    said = refused("model=clip", "model.path=someone/some-clip", "data=digits")
    assert "someone/some-clip" in said
    assert "HF_HUB_OFFLINE" in said
    said = refused("data=flickr8k", "data.path=someone/some-images", "eval=retrieval")
    assert "someone/some-images" in said


@pytest.mark.parametrize("data", ["cifar10", "flickr8k", "imagenet", "image_text"])
def test_data_without_a_path_and_a_path_that_is_not_there(refused, data):
    assert "data.path=<" in refused(f"data={data}")
    said = refused(f"data={data}", "data.path=nowhere")
    assert "nowhere does not exist" in said
