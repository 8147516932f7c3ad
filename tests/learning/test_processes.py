"""Two processes train as one does on the same batches; one that dies ends the other in words, and a resume goes on."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.errors import Problems, UserError, WorkError
from rcc.layers.gather import gathered
from rcc.layers.model import Batch
from rcc.learning.callback import Callback
from rcc.learning.distillation import Distillation, Weights
from rcc.learning.loop import Step
from rcc.learning.processes import Processes, check_launch, joined
from rcc.learning.trainer import CompressionTrainer, TrainingOptions
from rcc.models.own.module import ModuleAdapter

PAIRS, STEPS = 8, 3


class Towers(nn.Module):
    """Two linear towers and a scale, as CLIP has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 5), nn.Linear(4, 5)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def embedded(self, batch: Batch) -> dict[str, Tensor]:
        found = {"image_embeds": self.image(batch["images"]), "text_embeds": self.text(batch["texts"])}
        return {name: F.normalize(each, dim=-1) for name, each in found.items()}


def contrastive(module: Towers, batch: Batch) -> Tensor:
    found = {name: gathered(each) for name, each in module.embedded(batch).items()}
    similar = module.logit_scale.exp() * found["image_embeds"] @ found["text_embeds"].T
    right = torch.arange(len(similar))
    return (F.cross_entropy(similar, right) + F.cross_entropy(similar.T, right)) / 2


def batches(epoch: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(STEPS):
        yield {
            "images": torch.randn(PAIRS, 6, generator=generator),
            "texts": torch.randn(PAIRS, 4, generator=generator),
        }


def trained(loss: str, checkpoints: Path | None, resume: bool = False, *callbacks: Callback) -> dict[str, Any]:
    """The losses and the weights that training ends with."""
    module, dense = Towers(), Towers()
    with torch.no_grad():
        dense.image.weight.mul_(-0.5)
    model, teacher = (ModuleAdapter(each, outputs=each.embedded) for each in (module, dense))
    weights = Weights(features=1.0, logits=1.0, interactive=0.5)
    losses: dict[str, Callable[[Batch], Tensor]] = {
        "contrastive": lambda batch: contrastive(module, batch),
        "distilled": Distillation(model, teacher, weights),
        "of each": lambda batch: module.embedded(batch)["image_embeds"].sum(1).square().mean(),
    }
    trainer = CompressionTrainer(
        model, config=TrainingOptions(epochs=2, learning_rate=0.05, warmup=0), loss=losses[loss],
        checkpoints=checkpoints, resume=resume, callbacks=callbacks,
    )  # fmt: skip
    history = trainer.fit(batches, lambda: float(trainer.current_epoch), STEPS)
    return {
        "losses": [epoch.loss for epoch in history.epochs],
        "norms": [epoch.norm for epoch in history.epochs],
        "weights": [value for each in module.parameters() for value in each.detach().flatten().tolist()],
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def in_two(work: Callable[[Processes], Any], folder: Path) -> list[Any]:
    """What the work comes to in each of two processes that train together, or the text of its error."""
    port = free_port()
    children = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in told.items()})
            try:
                with joined(torch.device("cpu")) as processes:
                    found = work(processes)
            except WorkError as error:
                found = str(error)
            (folder / f"{rank}.json").write_text(json.dumps(found))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    results = [folder / f"{rank}.json" for rank in range(2)]
    return [json.loads(path.read_text()) if path.exists() else None for path in results]


@pytest.mark.parametrize("loss", ["contrastive", "distilled", "of each"])
def test_two_processes_have_the_losses_and_gradients_of_one(loss: str, tmp_path: Path) -> None:
    alone = trained(loss, None)
    for found in in_two(lambda processes: trained(loss, None), tmp_path):
        for name, values in alone.items():
            assert found[name] == pytest.approx(values, abs=1e-5), name


class Dies(Callback):
    """Ends its process at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        if trainer.global_step == self.step:
            os._exit(3)


@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_dies_ends_the_other_with_a_message_and_a_resume_goes_on_to_the_same_bits(
    dead: int, tmp_path: Path
) -> None:
    def work(processes: Processes, folder: str, resume: bool, at: int) -> dict[str, Any]:
        checkpoints = tmp_path / folder if processes.leads or resume else None
        callback = Dies(at) if processes.rank == dead else Callback()
        return trained("contrastive", checkpoints, resume, callback)

    (tmp_path / "whole").mkdir()
    whole = in_two(lambda processes: work(processes, "whole", False, -1), tmp_path)
    assert whole[0] == whole[1]
    for path in tmp_path.glob("*.json"):
        path.unlink()
    found = in_two(lambda processes: work(processes, "run", False, 4), tmp_path)
    assert found[dead] is None
    assert f"process {1 - dead} of 2 ends because another one did" in found[1 - dead]
    assert "resume=<the run's directory>" in found[1 - dead]
    again = in_two(lambda processes: work(processes, "run", True, -1), tmp_path)
    assert again == whole
    with pytest.raises(UserError, match="processes was 2 and is now 1"):
        trained("contrastive", tmp_path / "run", True, Callback())


def test_batches_that_cannot_be_shared_and_norms_of_batches_are_refused() -> None:
    three = Processes(1, 3)
    assert three.share({"a": torch.arange(6), "b": "text", "c": (torch.arange(3),)})["a"].tolist() == [2, 3]
    with pytest.raises(UserError, match=r"batch_size is 8 and there are 3 processes.*a multiple of 3, as 6"):
        three.share(torch.zeros(8))
    with pytest.raises(UserError, match="layer 1 is a batch norm"):
        three.check_module(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    Processes().check_module(nn.BatchNorm1d(2))


def test_a_launch_that_is_not_data_parallel_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    found = Problems()
    check_launch(found)
    first, second = found.found
    assert "accelerate was told to use FSDP" in first
    assert "WORLD_SIZE is 2, and MASTER_ADDR, MASTER_PORT is not set" in second
