from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys.adapters import ToyAdapter, compress, dense_toy, quantise

from rcc.artifact.load import load
from rcc.artifact.size import dense_bytes, directory_bytes, model_size
from rcc.artifact.write import write_artifact
from rcc.cascade.records import Size
from rcc.errors import UserError
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES


def data_section(path: Path) -> int:
    return path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("dtype", [None, *STORED_DTYPES])
@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize(
    "build", [dense_toy, lambda: compress(dense_toy()), lambda: quantise(compress(dense_toy()), "words", "one")]
)
def test_the_computed_size_is_the_data_section(build, entropy: str, dtype: str | None, tmp_path: Path) -> None:
    toy = build()
    write_artifact(toy, tmp_path / "artifact", dtype=dtype, entropy=entropy)
    size = model_size(toy, None if dtype is None else STORED_DTYPES[dtype], entropy)
    assert size.nbytes == data_section(tmp_path / "artifact" / "weights.safetensors")
    stored = load(tmp_path / "artifact", dtype=None).module
    tensors = {id(tensor): tensor for tensor in (*stored.parameters(), *stored.buffers())}.values()
    positions = 4  # not persistent
    assert size.stored == sum(tensor.numel() for tensor in tensors) - positions
    assert size.nonzeros == sum(int(torch.count_nonzero(tensor)) for tensor in tensors) - (positions - 1)


def test_a_quantised_matrix_takes_a_byte_a_value_and_its_steps() -> None:
    toy = dense_toy()
    before = model_size(toy, torch.float16, "none")
    after = model_size(quantise(toy, "one"), torch.float16, "none")
    zeros = int((toy.module.one.sparse == 0).sum())
    assert 0 < zeros < 32  # too few for a bitmask to pay
    assert before.nbytes - after.nbytes == 256 * 2 - 256 - 16 * 2
    assert (after.stored, after.nonzeros) == (before.stored + 16, before.nonzeros + 16 - zeros)


def test_counts_of_the_dense_model_are_exact_and_tied_weights_count_once(dense: ToyAdapter) -> None:
    values = 7 * 6 + 6 * 27 + 4 * 6 + (16 * 6 + 16) + 16 * 16 + 2 * 16 + 1
    buffers = 2 + 1  # the mask (one of its two values is 0) and num_batches_tracked; positions do not persist
    size = model_size(dense, torch.float16, "none")
    assert isinstance(size, Size)
    assert size.stored == values + buffers
    repeated = 6 + 6 + 16  # weights and variance of the norms, ones as they were: a word each in the manifest
    assert size.nbytes == 2 * (values - repeated) + 2 * 2 + 8
    assert size.nonzeros == size.stored - 1


def test_a_meta_model_has_the_size_of_a_full_one() -> None:
    with torch.device("meta"):
        toy = ToyAdapter(type(dense_toy().module)())
    size = model_size(toy, torch.float32)
    assert size.nonzeros == size.stored == model_size(dense_toy(), torch.float32).stored
    assert size.nbytes == (size.stored - 1) * 4 + 8


@pytest.mark.parametrize("dtype", [None, *STORED_DTYPES])
def test_dense_bytes_are_those_of_a_plain_directory(dtype: str | None, tmp_path: Path, monkeypatch) -> None:
    toy = dense_toy()
    toy.module.up.weight.data.zero_()  # would pay as gaps
    seen = {}
    original = type(toy).save_files

    def remembering(self: ToyAdapter, directory: Path) -> None:
        original(self, directory)
        seen["directory"] = directory

    monkeypatch.setattr(type(toy), "save_files", remembering)
    nbytes = dense_bytes(toy, dtype, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert seen["directory"].parent == tmp_path / "scratch"

    size = model_size(toy, torch.float32)
    itemsize = 4 if dtype is None else STORED_DTYPES[dtype].itemsize
    assert nbytes > (size.stored - 1) * itemsize + 8
    # What is left over is the header and the two small files of the adapter.
    assert nbytes < (size.stored - 1) * itemsize + 8 + 2500


def test_the_dense_directory_is_a_safetensors_checkpoint(tmp_path: Path, monkeypatch) -> None:
    kept = {}
    monkeypatch.setattr(
        "rcc.artifact.size.directory_bytes",
        lambda directory: kept.update(load_file(Path(directory) / "model.safetensors")) or 1,
    )
    toy = dense_toy()
    dense_bytes(toy, "float16", tmp_path)
    expected = {name: tensor for name, tensor in toy.module.state_dict().items() if name != "two.weight"}
    assert kept.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(kept[name], tensor.half() if tensor.is_floating_point() else tensor)


def test_directory_bytes_counts_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"123")
    assert directory_bytes(tmp_path) == 8


def test_an_unknown_dtype_lists_what_exists(dense: ToyAdapter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown artifact dtype 'float15'\. Did you mean 'float16'"):
        dense_bytes(dense, "float15", tmp_path)
