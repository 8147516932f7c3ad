"""The dense model to learn from: what it must have in common with the model, and what is said where it has not."""

from __future__ import annotations

import pytest
import torch

from rcc.errors import UserError
from rcc.jobs.teacher import refuse_other_inputs, refuse_other_outputs
from rcc.learning.distillation import Weights


def test_a_teacher_of_other_inputs_is_told_which_differ(clip):
    ours = {"pixel_values": torch.zeros(2, 3, 32, 32), "input_ids": torch.zeros(2, 16, dtype=torch.int64)}
    refuse_other_inputs("same", clip, clip, ours, ours)
    theirs = {"pixel_values": torch.zeros(2, 3, 48, 48), "input_ids": ours["input_ids"] + 1}
    with pytest.raises(UserError) as error:
        refuse_other_inputs("other", clip, clip, theirs, ours)
    first, second, third = error.value.problems
    assert "pixel_values of (2, 3, 48, 48) of the same items, and the model (2, 3, 32, 32): another image size" in first
    assert "other input_ids of the same items: another tokenizer" in second
    assert "Name the model that was compressed" in third


def test_a_teacher_of_other_outputs_is_told_with_the_loss_to_leave_out(clip, clip_tiny):
    batch = {
        "pixel_values": torch.zeros(3, 3, 32, 32),
        "input_ids": torch.ones(3, 4, dtype=torch.int64),
        "attention_mask": torch.ones(3, 4, dtype=torch.int64),
    }
    refuse_other_outputs("same", clip, clip, batch, Weights())
    with pytest.raises(UserError) as error:
        refuse_other_outputs("large", clip_tiny, clip, batch, Weights(hidden=1.0))
    images, texts, blocks = error.value.problems
    assert "it puts out image_embeds of (3, 128) and the model (3, 16), which the loss 'features'" in images
    assert "text_embeds" in texts
    assert "it has 6 blocks and the model 4, which the loss 'hidden' compares one by one" in blocks
    refuse_other_outputs("large", clip_tiny, clip, batch, Weights(features=0.0))
