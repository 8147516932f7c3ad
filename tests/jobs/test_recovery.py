"""trainer= in job=compress: a step of its own after the others, at a target, refused where it cannot be."""

from __future__ import annotations

import json

import pytest

SMALL = ("debug=quick", "threads=1", "gate.threshold=0.001", "data.train=64", "hydra.run.dir=run")


def numbers(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(line["stage"], line["name"]): line["value"] for line in lines}


def test_recovery_is_a_step_after_the_others_and_the_target_holds_after_it(rcc_run, tmp_path):
    code, _, err = rcc_run(
        *SMALL, "target_ratio=60", "stage=quant", "trainer=recover",
        "trainer.epochs=1", "export.container=file",
    )  # fmt: skip
    assert code == 0, err
    found = numbers(tmp_path / "run")
    assert found["recover", "facts.steps"] == 1
    assert found["recover", "retention"] >= found["quant", "retention"]
    wanted = found["run", "target_bytes"]
    assert abs((tmp_path / "run/artifact.rcc").stat().st_size - wanted) <= 0.01 * wanted
    assert "recover" in (tmp_path / "run/report.md").read_text()


def test_a_plan_names_the_step(rcc_run):
    code, out, err = rcc_run(*SMALL, "trainer=recover", "dry_run=true")
    assert code == 0, err
    assert "recover" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trainer=recover", "stage=dare+recover"), "both name 'recover': leave one out"),
        (("trainer=recover", "trainer.epochs=0"), "epochs is 0"),
        (("trainer=recover", "trainer.precision=float16"), "float16"),
        (("trainer=none", "trainer.epochs=3"), "epochs"),
        (("trainer=recover", "trainer.batch_size=65"), "batch_size is 65 and the training split has 64 images"),
        (("trainer=pretrain",), "pretrain"),
    ],
)
def test_what_cannot_be_is_refused_before_work(rcc_run, tmp_path, arguments, told):
    code, _, err = rcc_run(*SMALL, *arguments)
    assert code == 2
    assert told in " ".join(err.split())
