from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from toys.adapters import ToyAdapter, compress, dense_toy, quantise

import rcc.artifact.weights
from rcc.artifact.size import dense_bytes, directory_bytes, model_size
from rcc.artifact.write import Overhead, write_artifact
from rcc.cascade.bytes.forecast import forecast
from rcc.errors import UserError, WorkError
from rcc.models.adapter import Adapter
from rcc.models.registry import load_model, load_skeleton


def test_the_manifest_says_what_is_stored_and_how(artifact: Path, compressed: ToyAdapter) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"], manifest["adapter"]) == ("rcc-artifact", 6, "toy")
    assert manifest["dtype"] == "float32"
    lines = {
        module: {attribute: line.partition(" ")[0] for attribute, line in attributes.items()}
        for module, attributes in manifest["modules"].items()
    }
    assert lines == {
        "": {"logit_scale": "scalar", "mask": "2"},
        "words": {"left": "7x2", "right": "2x6"},
        "image": {"weight": "6x3x3x3", "bias": "6"},
        "batch_norm": {
            "weight": "6", "bias": "6", "running_mean": "6", "running_var": "6", "num_batches_tracked": "scalar",
        },
        "up": {"sparse": "16x6", "left": "16x2", "right": "2x6", "scale": "16", "bias": "16"},
        "one": {"left": "16x3", "right": "3x16"},
        "norm": {"weight": "16", "bias": "16"},
    }  # fmt: skip
    assert manifest["tied"] == {"two.left": "one.left", "two.right": "one.right"}
    assert sorted(manifest["files"]) == ["config.json", "processor/size.txt"]
    sparse = compressed.module.up.sparse
    assert manifest["modules"]["up"]["sparse"].startswith(f"16x6 gaps {int(torch.count_nonzero(sparse))} ")
    assert manifest["modules"]["up"]["left"].startswith("16x2 dense ")
    assert manifest["modules"]["batch_norm"]["num_batches_tracked"] == "scalar int64"
    assert sorted(manifest["vectors"]) == ["float32", "int64"]


def test_a_quantised_matrix_says_so_in_the_manifest(compressed: ToyAdapter, tmp_path: Path) -> None:
    write_artifact(quantise(compressed, "words"), tmp_path / "artifact", dtype="float16")
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert manifest["dtype"] == "float16"
    assert manifest["modules"]["words"]["left"].startswith("7x2 int8*step dense ")
    assert manifest["modules"]["words"]["left_step"] == "7"


def test_the_manifest_of_a_module_is_a_line_and_the_header_of_the_weights_is_short(
    compressed: ToyAdapter, tmp_path: Path
) -> None:
    size = write_artifact(compressed, tmp_path / "artifact")
    lines = (tmp_path / "artifact" / "manifest.json").read_text().splitlines()
    assert sum(line.startswith('"up":') for line in lines) == 1
    assert (tmp_path / "artifact" / "manifest.json").stat().st_size < 1500
    assert size.weights_bytes == 8 + 88 + model_size(compressed, None).nbytes


def test_the_sizes_are_those_on_disk(dense: ToyAdapter, tmp_path: Path) -> None:
    size = write_artifact(dense, tmp_path / "artifact", dtype="float16")
    assert size.weights_bytes == (tmp_path / "artifact" / "weights.safetensors").stat().st_size
    assert size.directory_bytes == directory_bytes(tmp_path / "artifact")
    assert size.directory_bytes > size.weights_bytes


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_artifact(compress(dense_toy()), tmp_path / name, dtype="float16")
    for file in ("weights.safetensors", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_config_and_metrics_travel_as_plain_json(dense: ToyAdapter, tmp_path: Path) -> None:
    config = {"stage": {"dare": {"target_sparsity": 0.5}}, "path": Path("/home/me/clip"), "order": ("a", "b")}
    write_artifact(dense, tmp_path / "artifact", config=config, metrics={"overlap": float("nan"), "accuracy": 0.99})
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert manifest["config"] == {"stage": {"dare": {"target_sparsity": 0.5}}, "path": "clip", "order": ["a", "b"]}
    assert manifest["metrics"] == {"overlap": None, "accuracy": 0.99}


def test_a_float16_overflow_names_the_tensor_and_a_wider_dtype(dense: ToyAdapter, tmp_path: Path) -> None:
    dense.module.up.weight.data[2, 3] = 70000.0
    with pytest.raises(WorkError, match=r"up\.weight \(16, 6\): 1 values do not fit.*70000.*65504.*bfloat16"):
        write_artifact(dense, tmp_path / "artifact", dtype="float16")
    assert list(tmp_path.iterdir()) == []
    write_artifact(dense, tmp_path / "artifact", dtype="bfloat16")


def test_a_bfloat16_overflow_is_caught_too(dense: ToyAdapter, tmp_path: Path) -> None:
    dense.module.up.bias.data[0] = torch.finfo(torch.float32).max
    with pytest.raises(WorkError, match=r"up\.bias.*export\.dtype=float32"):
        write_artifact(dense, tmp_path / "artifact", dtype="bfloat16")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_non_finite_weights_are_refused_by_name(
    value: float, dtype: str | None, dense: ToyAdapter, tmp_path: Path
) -> None:
    dense.module.norm.bias.data[3] = value
    with pytest.raises(WorkError, match=r"norm\.bias \(16,\) holds 1 values that are NaN or infinite"):
        write_artifact(dense, tmp_path / "artifact", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_weights_without_data_or_of_an_unknown_dtype_are_refused(tmp_path: Path) -> None:
    meta = dense_toy()
    meta.module.norm.to("meta")
    with pytest.raises(WorkError, match=r"norm\.weight .* meta device"):
        write_artifact(meta, tmp_path / "artifact")
    odd = dense_toy()
    odd.module.mask = torch.zeros(2, dtype=torch.complex64)
    with pytest.raises(WorkError, match=r"mask has dtype torch\.complex64.*float32"):
        write_artifact(odd, tmp_path / "artifact")


def test_an_existing_directory_is_refused_untouched(dense: ToyAdapter, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    with pytest.raises(UserError, match="exists already"):
        write_artifact(dense, tmp_path / "artifact")
    assert list((tmp_path / "artifact").iterdir()) == []


def test_an_unknown_dtype_is_refused_before_anything_is_written(dense: ToyAdapter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown artifact dtype 'int8'"):
        write_artifact(dense, tmp_path / "deep" / "artifact", dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_entropy_coding_is_refused_before_anything_is_written(dense: ToyAdapter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown entropy coding 'zip'\..*none, zstd"):
        write_artifact(dense, tmp_path / "artifact", entropy="zip")
    assert list(tmp_path.iterdir()) == []


class FillingFile:
    """A file on a disk that is full after some writes."""

    room = 3

    def __init__(self, path: Path, mode: str) -> None:
        self.file = open(path, mode)  # noqa: SIM115

    def __enter__(self) -> FillingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        FillingFile.room -= 1
        if FillingFile.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.file.write(content)


def test_what_belongs_to_one_machine_or_attempt_is_not_shipped(dense: ToyAdapter, tmp_path: Path) -> None:
    here = {"model": {"path": str(tmp_path / "clip")}, "artifact": ["./one", "~/two"], "resume": "outputs/x", "seed": 0}
    there = {"model": {"path": "/srv/models/clip"}, "artifact": ["../one", "two"], "resume": None, "seed": 0}
    for name, config in (("here", here), ("there", there)):
        write_artifact(dense, tmp_path / name / "artifact", config=config)
    for file in sorted((tmp_path / "here/artifact").rglob("*")):
        other = tmp_path / "there" / file.relative_to(tmp_path / "here")
        assert file.is_dir() or file.read_bytes() == other.read_bytes()
    manifest = json.loads((tmp_path / "here/artifact/manifest.json").read_text())
    assert manifest["config"] == {"model": {"path": "clip"}, "artifact": ["one", "two"], "seed": 0}


def test_the_names_of_the_hub_and_plain_text_are_shipped_as_they_are(dense: ToyAdapter, tmp_path: Path) -> None:
    config = {"path": "openai/clip-vit-base-patch32", "template": "a photo of a {}", "ratio": "1/2"}
    write_artifact(dense, tmp_path / "artifact", config=config)
    assert json.loads((tmp_path / "artifact/manifest.json").read_text())["config"] == config


def test_a_full_disk_leaves_nothing_behind(dense: ToyAdapter, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rcc.artifact.weights, "open", FillingFile, raising=False)
    with pytest.raises(WorkError, match=r"cannot write .*artifact: No space left on device. Free some space"):
        write_artifact(dense, tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_the_users_affair(dense: ToyAdapter, tmp_path: Path, monkeypatch) -> None:
    def refusing(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refusing)
    with pytest.raises(UserError, match=r"Read-only file system.*Choose a folder you may write to"):
        write_artifact(dense, tmp_path / "artifact")


def test_writing_does_not_change_the_model(compressed: ToyAdapter, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in compressed.module.state_dict().items()}
    write_artifact(compressed, tmp_path / "artifact", dtype="bfloat16")
    after = compressed.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture(scope="module")
def embedded() -> Adapter:
    return load_model("clip_tiny", device="cpu")


def test_the_forecast_and_the_overhead_are_the_directory_to_the_byte(embedded: Adapter, tmp_path: Path) -> None:
    config, metrics = {"stage": {"dare": {"a": 0.5}}}, {"test": {"accuracy": 0.25}}
    overhead = Overhead(embedded, tmp_path / "new", config)
    made = forecast(embedded, (), torch.float16, "none")
    size = write_artifact(embedded, tmp_path / "artifact", "float16", config, metrics, "none")
    assert made.matrices + made.rest + overhead.nbytes(embedded, made.contents, metrics) == size.directory_bytes
    assert list(Path(tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "float16", None])
def test_a_skeleton_is_enough_for_the_bytes_of_the_dense_directory(
    embedded: Adapter, tmp_path: Path, dtype: str | None
) -> None:
    written = dense_bytes(embedded, dtype, tmp_path)
    assert Overhead(load_skeleton("clip_tiny"), tmp_path).dense_bytes(load_skeleton("clip_tiny"), dtype) == written
    assert list(tmp_path.iterdir()) == []
