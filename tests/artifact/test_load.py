from __future__ import annotations

import hashlib
import io
import pickle
from difflib import get_close_matches
from pathlib import Path

import pytest
import torch
from toys.adapters import Toy, ToyAdapter, compress, dense_toy, outputs, quantise
from toys.artifacts import rewrite_manifest
from toys.calls import counted

from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper


@pytest.mark.parametrize("build", [dense_toy, lambda: compress(dense_toy())], ids=["dense", "compressed"])
def test_float32_storage_gives_bit_identical_outputs(build, tmp_path: Path) -> None:
    toy = build()
    write_artifact(toy, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    assert isinstance(loaded, ToyAdapter)
    assert not loaded.module.training
    assert torch.equal(outputs(loaded), outputs(toy))


@pytest.mark.parametrize("entropy", ["zstd", "none"])
@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_quantised_matrices_lose_nothing_to_the_dtype_of_their_steps(
    dtype: str | None, entropy: str, tmp_path: Path
) -> None:
    toy = quantise(compress(dense_toy()), "words", "one", "image")
    write_artifact(toy, tmp_path / "artifact", dtype=dtype, entropy=entropy)
    loaded, expected = load(tmp_path / "artifact"), toy.module.state_dict()
    for name in ("words.left", "words.right", "one.left", "one.right", "image.sparse"):
        assert torch.equal(loaded.module.state_dict()[name], expected[name])
        assert torch.equal(loaded.module.state_dict()[f"{name}_step"], expected[f"{name}_step"])
    assert loaded.module.two.left is loaded.module.one.left
    if dtype in (None, "float32"):
        assert torch.equal(outputs(loaded), outputs(toy))
    again = tmp_path / "again"
    write_artifact(loaded, again, dtype=dtype, entropy=entropy)
    assert (again / "weights.safetensors").read_bytes() == (tmp_path / "artifact/weights.safetensors").read_bytes()


@pytest.mark.parametrize("compute", ["float32", "bfloat16", None])
def test_a_quantised_matrix_is_the_product_in_the_dtype_of_computing(compute: str | None, tmp_path: Path) -> None:
    toy = quantise(dense_toy(), "one")
    write_artifact(toy, tmp_path / "artifact", dtype="float16")
    one = load(tmp_path / "artifact", dtype=compute).module.one
    dtype = torch.float16 if compute is None else getattr(torch, compute)
    assert one.sparse.dtype == one.sparse_step.dtype == dtype
    assert torch.equal(one.sparse, toy.module.one.sparse.to(dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_storage_gives_the_outputs_of_the_cast_model(dtype: str, tmp_path: Path) -> None:
    toy = compress(dense_toy())
    write_artifact(toy, tmp_path / "artifact", dtype=dtype)
    toy.module.to(getattr(torch, dtype)).float()
    loaded = load(tmp_path / "artifact")
    assert loaded.module.up.left.dtype == torch.float32
    assert torch.equal(outputs(loaded), outputs(toy))


def test_a_reloaded_model_writes_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    write_artifact(load(artifact), tmp_path / "again")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (artifact / "weights.safetensors").read_bytes()


def test_the_compute_dtype_is_the_callers(artifact: Path) -> None:
    assert load(artifact, dtype="bfloat16").module.up.left.dtype == torch.bfloat16
    assert load(artifact, dtype=None).module.up.left.dtype == torch.float32
    with pytest.raises(UserError, match="unknown artifact dtype 'float8'"):
        load(artifact, dtype="float8")


def test_a_plain_module_needs_the_callers_skeleton(tmp_path: Path) -> None:
    toy = compress(dense_toy())
    write_artifact(ModuleAdapter(toy.module), tmp_path / "artifact")
    with pytest.raises(UserError, match="skeleton=module"):
        load(tmp_path / "artifact")
    with torch.device("meta"):
        skeleton = Toy()
    skeleton.positions = torch.arange(4)  # in no file, so that the skeleton must have it
    loaded = load(tmp_path / "artifact", skeleton=skeleton)
    assert loaded.module is skeleton
    assert torch.equal(outputs(loaded), outputs(toy))


def test_a_skeleton_nobody_asked_for_is_refused(artifact: Path) -> None:
    with pytest.raises(UserError, match="'toy', which builds its own skeleton"):
        load(artifact, skeleton=Toy())


def test_an_altered_config_is_refused_before_it_is_used(artifact: Path) -> None:
    (artifact / "config.json").write_text('{"width": 1000000}')
    with pytest.raises(UserError, match=r"'config\.json' is not the one that was written"):
        load(artifact)


def test_damage_goes_unseen_only_where_asked(artifact: Path) -> None:
    content = bytearray((artifact / "weights.safetensors").read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    content[data + 8] ^= 1  # in a vector, of which none is entropy-coded
    (artifact / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="does not hold the bytes that were written"):
        load(artifact)
    assert isinstance(load(artifact, verify=False), ToyAdapter)


def test_an_unknown_adapter_lists_what_exists(artifact: Path) -> None:
    rewrite_manifest(artifact, lambda manifest: manifest.update(adapter="os:system"))
    with pytest.raises(
        UserError, match=r"unknown adapter 'os:system'.*clip, clip_vision, module, siglip, .*vit, whisper"
    ):
        load(artifact)


def test_nothing_is_unpickled(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return pytest.fail, ("unpickled",)

    buffer = io.BytesIO()
    pickle.dump(Trap(), buffer)
    (artifact / "pytorch_model.bin").write_bytes(buffer.getvalue())
    monkeypatch.setattr(pickle, "Unpickler", pytest.fail)
    monkeypatch.setattr(torch, "load", pytest.fail)
    load(artifact)
    (artifact / "weights.safetensors").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="no safetensors file"):
        load(artifact)


def test_loading_reads_the_manifest_once_and_each_file_once(artifact: Path) -> None:
    with counted(read_manifest, hashlib.file_digest, get_close_matches) as calls:
        load(artifact)
    files = len(read_manifest(artifact).files)
    assert files == 2
    assert calls == {"read_manifest": 1, "file_digest": files, "get_close_matches": 0}


def test_a_transformers_model_is_loaded_from_one_reading_as_well(clip: CLIPWrapper, tmp_path: Path) -> None:
    write_artifact(clip, tmp_path / "artifact")
    with counted(read_manifest, hashlib.file_digest, get_close_matches) as calls:
        load(tmp_path / "artifact")
    assert calls == {"read_manifest": 1, "file_digest": 4, "get_close_matches": 0}
