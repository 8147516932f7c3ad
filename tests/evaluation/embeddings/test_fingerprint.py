"""Checksums of a model: what changes them, what does not, and when another process finds the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from rcc.evaluation.embeddings.fingerprint import Fingerprinter
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.clip import CLIPWrapper


def test_a_copy_has_the_same_checksum_from_any_fingerprinter(clip: CLIPWrapper) -> None:
    one, other = Fingerprinter()(clip), Fingerprinter()(deepcopy(clip))
    assert one == other
    assert one.portable
    assert [len(one.checksum), len(one.inputs)] == [64, 64]


def write_through_data(clip: CLIPWrapper) -> None:
    clip.module.visual_projection.weight.data[0, 0] += 1


def swap_names(clip: CLIPWrapper) -> None:
    first = clip.module.vision_model.encoder.layers[0].self_attn
    first.q_proj, first.k_proj = first.k_proj, first.q_proj


def another_activation(clip: CLIPWrapper) -> None:
    clip.module.vision_model.encoder.layers[0].mlp.activation_fn = nn.ReLU()


@pytest.mark.parametrize("change", [write_through_data, swap_names, another_activation])
def test_weights_their_names_and_the_structure_count_and_leave_the_inputs_alone(
    clip: CLIPWrapper, change: Callable[[CLIPWrapper], None]
) -> None:
    fingerprint = Fingerprinter()
    before = fingerprint(clip)
    change(clip)
    after = fingerprint(clip)
    assert after.checksum != before.checksum
    assert after.inputs == before.inputs


def other_pixels(clip: CLIPWrapper) -> None:
    clip.image_processor.image_mean = [0.0, 0.0, 0.0]


def another_dtype(clip: CLIPWrapper) -> None:
    clip.module.bfloat16()


@pytest.mark.parametrize("change", [other_pixels, another_dtype])
def test_what_decides_how_images_become_pixels_counts_for_inputs_too(
    clip: CLIPWrapper, change: Callable[[CLIPWrapper], None]
) -> None:
    fingerprint = Fingerprinter()
    before = fingerprint(clip)
    change(clip)
    after = fingerprint(clip)
    assert after.checksum != before.checksum
    assert after.inputs != before.inputs


def test_an_adapter_without_files_is_known_by_the_object_it_is() -> None:
    module = nn.Linear(2, 2)
    one, other = ModuleAdapter(module), ModuleAdapter(module)
    fingerprint = Fingerprinter()
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one).inputs != fingerprint(other).inputs
    assert not fingerprint(one).portable


def test_a_tied_weight_counts_once_and_untying_it_makes_another_model() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    adapter = ModuleAdapter(module)
    fingerprint = Fingerprinter()
    tied = fingerprint(adapter)
    module[1].weight = nn.Parameter(module[0].weight.detach().clone())
    assert fingerprint(adapter).checksum != tied.checksum


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_every_tensor_counts_and_packed_ones_by_identity() -> None:
    class Holder(nn.Module):
        def __init__(self, plain: Tensor) -> None:
            super().__init__()
            self.weight, self.plain = nn.Parameter(torch.ones(2)), plain

    fingerprint = Fingerprinter()

    def checksum(plain: Tensor) -> str:
        adapter.module.plain = plain
        return fingerprint(adapter).checksum

    adapter = ModuleAdapter(Holder(torch.ones(2)))
    rows = torch.eye(3).to_sparse_csr()
    packed = [torch.ones(4, 4).to_mkldnn() for _ in range(2)]
    found = [checksum(plain) for plain in (torch.ones(2), torch.zeros(2), rows, 2 * rows, *packed)]
    assert len(set(found)) == 6
    assert found == [checksum(plain) for plain in (torch.ones(2), torch.zeros(2), rows, 2 * rows, *packed)]
