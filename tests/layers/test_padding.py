"""Padding is left out of the tensors that a batch's attention mask speaks of, and of no others."""

from __future__ import annotations

import pytest
import torch

from rcc.layers.padding import mask_of, without_padding

MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def test_the_mask_of_a_batch_is_its_attention_mask():
    assert mask_of({"input_ids": MASK, "attention_mask": MASK}) is MASK
    assert mask_of({"pixel_values": torch.zeros(2, 3)}) is None


def test_the_tokens_that_count_are_left_in_order():
    values = torch.arange(12.0).reshape(2, 3, 2)
    assert without_padding(values, MASK).tolist() == [[0, 1], [2, 3], [6, 7]]
    heads = values.reshape(2, 3, 2, 1)
    assert without_padding(heads, MASK.bool()).shape == (3, 2, 1)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4), (2, 4, 4), (6, 4)])
def test_tensors_of_another_shape_are_left_as_they_are(shape):
    values = torch.zeros(shape)
    assert without_padding(values, MASK) is values


def test_without_a_mask_everything_counts():
    values = torch.zeros(2, 3, 4)
    assert without_padding(values, None) is values
