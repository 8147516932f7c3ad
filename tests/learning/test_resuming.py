"""A training that stopped after any step goes on to the same bits, whatever it is made of."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rcc.atomic import PARTIAL
from rcc.errors import UserError, WorkError
from rcc.learning.history import History
from rcc.learning.loop import Step
from rcc.learning.optimisers import OPTIMISERS
from rcc.learning.schedules import SHAPES
from rcc.learning.trainer import Callback, CompressionTrainer, TrainingOptions

EPOCHS, BATCHES = 3, 4


class StoppedError(Exception):
    """Stands for the end of a process."""


class StopAfter(Callback):
    """Takes the state after a step, and ends the training there."""

    def __init__(self, step: int) -> None:
        self.step, self.state = step, {}

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        if trainer.global_step == self.step:
            state = trainer.state_dict()
            tensors = {name: tensor.clone() for name, tensor in state["tensors"].items()}
            self.state = {"tensors": tensors, "state": state["state"]}
            raise StoppedError


class Training:
    """A network with dropout and a batch norm on a shuffling loader: both draw from torch's global generator."""

    def __init__(self, options: TrainingOptions, seed: int, *callbacks: Callback, **more: Any) -> None:
        torch.manual_seed(0)
        inputs, targets = torch.randn(32, 6), torch.randint(3, (32,))
        torch.manual_seed(seed)
        self.module = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3), nn.LayerNorm(3)
        )
        self.held_out = [(inputs[:8], targets[:8])]
        self.loader = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)
        self.trainer = CompressionTrainer(self.module, config=options, callbacks=callbacks, **more)

    def run(self) -> History:
        return self.trainer.fit(lambda epoch: self.loader, self.score, BATCHES)

    def score(self) -> float:
        return -self.trainer.validate(self.held_out)["loss"]

    def outcome(self) -> tuple[dict[str, Tensor], History]:
        return {name: tensor.clone() for name, tensor in self.module.state_dict().items()}, self.trainer.history


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@settings(max_examples=12, deadline=None)
@given(
    optimiser=st.sampled_from(OPTIMISERS),
    schedule=st.sampled_from(sorted(SHAPES)),
    precision=st.sampled_from(["float32", "bfloat16"]),
    average=st.sampled_from([0.0, 0.9]),
    accumulate=st.sampled_from([1, 3]),
    share=st.floats(0, 0.999),
)
def test_a_training_stopped_after_any_step_and_gone_on_with_in_fresh_objects_is_the_same_to_the_bit(
    optimiser: str, schedule: str, precision: str, average: float, accumulate: int, share: float
) -> None:
    options = TrainingOptions(
        epochs=EPOCHS, optimiser=optimiser, schedule=schedule, precision=precision, average=average, warmup=2,
        accumulate=accumulate, learning_rate=0.02, plateau_epochs=1 if schedule == "plateau" else 2,
    )  # fmt: skip
    whole = Training(options, seed=1)
    whole.run()
    weights, history = whole.outcome()

    stop = StopAfter(1 + int(share * whole.trainer.global_step))
    first = Training(options, 1, stop)
    with pytest.raises(StoppedError):
        first.run()
    second = Training(options, 2, StopAfter(-1))
    second.trainer.load_state_dict(stop.state)
    second.run()
    again, history_again = second.outcome()
    assert same(weights, again)
    assert history_again == history
    assert second.trainer.global_step == whole.trainer.global_step


class Kill(Callback):
    """Ends the process at a step, as by the system."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: CompressionTrainer, step: Step) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> int:
    """The exit status of a fork that does some work."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


CHECKPOINTED = TrainingOptions(epochs=EPOCHS, learning_rate=0.02, warmup=2, average=0.9, checkpoint_every=3)


def deadly(call: Callable[..., Any], calls: Iterator[int], point: int, *arguments: Any, **options: Any) -> Any:
    """A system call, or at number `point` the end of the process."""
    if next(calls, point) == point:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*arguments, **options)


def test_a_training_killed_at_any_call_that_changes_the_disk_ends_in_the_same_bits(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = Training(CHECKPOINTED, 1, checkpoints=tmp_path / "whole")
    whole.run()
    weights, history = whole.outcome()
    points = range(1, 60, 4)
    for point in points:
        folder = tmp_path / f"killed-{point}"

        def killed(point: int = point, folder: Path = folder) -> None:
            calls = iter(range(1, point + 1))
            for name in ("fsync", "replace", "unlink"):
                setattr(os, name, partial(deadly, getattr(os, name), calls, point))
            Training(CHECKPOINTED, 1, checkpoints=folder).run()

        status = in_child(killed)
        resumed = Training(CHECKPOINTED, 1, checkpoints=folder, resume=True)
        resumed.run()
        found, again = resumed.outcome()
        assert same(found, weights), point
        assert again == history
        assert not [path for path in folder.iterdir() if path.name.endswith(PARTIAL)]
        if not os.WIFSIGNALED(status):
            break  # it was over before it came to the call
    assert point > 8


def test_a_training_killed_between_two_checkpoints_goes_on_from_the_last(tmp_path: Path) -> None:
    whole = Training(CHECKPOINTED, 1)
    whole.run()
    assert os.WIFSIGNALED(in_child(lambda: Training(CHECKPOINTED, 1, Kill(5), checkpoints=tmp_path / "x").run()))
    resumed = Training(CHECKPOINTED, 2, Callback(), checkpoints=tmp_path / "x", resume=True)
    resumed.run()
    assert same(resumed.outcome()[0], whole.outcome()[0])


def test_a_folder_with_a_checkpoint_is_not_used_by_a_fresh_training_and_a_finished_one_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    first = Training(CHECKPOINTED, 1, checkpoints=tmp_path)
    first.run()
    with pytest.raises(UserError, match="holds the checkpoint of a training: resume it"):
        Training(CHECKPOINTED, 1, checkpoints=tmp_path).run()
    again = Training(CHECKPOINTED, 2, checkpoints=tmp_path, resume=True)
    assert again.run() == first.trainer.history
    assert same(again.outcome()[0], first.outcome()[0])


def test_a_training_of_other_options_says_every_difference(tmp_path: Path) -> None:
    Training(CHECKPOINTED, 1, checkpoints=tmp_path, identity={"batch_size": 8, "seed": 0}).run()
    other = TrainingOptions(epochs=EPOCHS, optimiser="sgd", learning_rate=0.02, warmup=2, average=0.9)
    with pytest.raises(UserError) as error:
        Training(other, 1, checkpoints=tmp_path, resume=True, identity={"batch_size": 4, "seed": 0}).run()
    assert error.value.problems == (
        "the checkpoint is of another training: optimiser was 'adamw' and is now 'sgd'.",
        "the checkpoint is of another training: batch_size was 8 and is now 4.",
    )


SOUND = (("schedule", None), ("best", [None, None]), ("callbacks", "x"))
"""Of a trainer before its first step, before its first epoch, and of one callback that takes anything."""


def go_on(state: dict[str, Any]) -> None:
    training = Training(CHECKPOINTED, 1, Callback())
    training.trainer.load_state_dict(state)
    training.run()


@pytest.mark.parametrize("value", [None, "absent", [], {}, "x", [None, None]])
def test_a_state_that_no_trainer_wrote_is_refused_in_words(value: Any) -> None:
    stop = StopAfter(5)
    with pytest.raises(StoppedError):
        Training(CHECKPOINTED, 1, stop).run()
    for key in ("asked", "standing", "best", "schedule", "callbacks", "random"):
        state = {**stop.state["state"], key: value}
        if value == "absent":
            del state[key]
        if (key, value) in SOUND:
            continue
        with pytest.raises(UserError, match=r"checkpoint is (damaged|of another)"):
            go_on({**stop.state, "state": state})


def test_another_number_of_batches_is_another_training(tmp_path: Path) -> None:
    Training(CHECKPOINTED, 1, checkpoints=tmp_path).run()
    other = Training(CHECKPOINTED, 1, checkpoints=tmp_path, resume=True)
    with pytest.raises(UserError, match="its steps were 12 in all and are now 15"):
        other.trainer.fit(lambda epoch: other.loader, other.score, BATCHES + 1)


def test_a_place_that_cannot_be_written_to_and_a_full_disk_are_told(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        Training(CHECKPOINTED, 1, checkpoints=tmp_path / "file/folder").run()

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("rcc.learning.checkpoint.save_file", full)
    with pytest.raises(WorkError, match=r"No space left on device.*Free some space"):
        Training(CHECKPOINTED, 1, checkpoints=tmp_path / "full").run()


class Counting(Callback):
    """Keeps a number that its later calls depend on."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def after_epoch(self, trainer: CompressionTrainer, epoch: Any) -> None:
        self.epochs.append(epoch.number)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Any) -> None:
        self.epochs = list(state["epochs"])


def test_what_callbacks_keep_goes_into_checkpoints(tmp_path: Path) -> None:
    stop = StopAfter(9)
    with pytest.raises(StoppedError):
        Training(CHECKPOINTED, 1, Counting(), stop, checkpoints=tmp_path).run()
    counting = Counting()
    Training(CHECKPOINTED, 1, counting, Callback(), checkpoints=tmp_path, resume=True).run()
    assert counting.epochs == [1, 2, 3]


def test_batches_that_draw_from_a_generator_of_their_own_are_made_anew_up_to_where_it_stopped() -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 1)
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def batches(epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(BATCHES):
            yield torch.randn(5, 4, generator=generator)

    def trainer(*callbacks: Callback) -> CompressionTrainer:
        module.load_state_dict(start)
        options = TrainingOptions(epochs=2, warmup=0)
        return CompressionTrainer(module, config=options, loss=lambda x: module(x).square().mean(), callbacks=callbacks)

    trainer().fit(batches, lambda: 0.0, BATCHES)
    expected = module.weight.detach().clone()
    stop = StopAfter(6)
    with pytest.raises(StoppedError):
        trainer(stop).fit(batches, lambda: 0.0, BATCHES)
    resumed = trainer(Callback())
    resumed.load_state_dict(stop.state)
    resumed.fit(batches, lambda: 0.0, BATCHES)
    assert torch.equal(module.weight, expected)
