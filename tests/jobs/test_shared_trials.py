"""What the trials of a sweep share changes none: artifacts, numbers and items are those of runs alone, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

SPARSITIES = ("0.5", "0.75")
TIMES = ("seconds", "peak_memory")


def numbers(run: Path) -> list[dict[str, object]]:
    """What metrics.jsonl says, but for times and memory."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key != "time"}
        for line in lines
        if not line["name"].endswith(TIMES)
    ]


def test_trials_that_share_come_to_the_bytes_of_runs_alone(rcc_run, tmp_path, small_clip):
    words = ("debug=quick", "threads=1", *small_clip, "stage=dare+quant", "stage.dare.allocation=sensitivity")
    swept = f"stage.dare.target_sparsity={','.join(SPARSITIES)}"
    code, out, err = rcc_run("-m", *words, swept, "hydra.sweep.dir=s")
    assert code == 0, err
    told = "Taken from earlier trials of this sweep: the dense model on the selection split ("
    assert out.count(told) == 1, "by the second"
    assert "sensitivities of the dense model's layers (" in out
    assert "the dense model on the test split (" in out
    assert len(list((tmp_path / "s/shared").glob("*.json"))) == 3
    for number, sparsity in enumerate(SPARSITIES):
        code, out, err = rcc_run(*words, f"stage.dare.target_sparsity={sparsity}", f"hydra.run.dir=alone-{number}")
        assert code == 0, err
        assert "Taken from" not in out
        trial, alone = tmp_path / f"s/{number}", tmp_path / f"alone-{number}"
        assert numbers(trial) == numbers(alone)
        for name in ("artifact/weights.safetensors", "items.json"):
            assert (trial / name).read_bytes() == (alone / name).read_bytes(), name
