"""W&B without a network: a real offline run inside the run's directory, and every way of having no key."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toys.wandb_file import read

from rcc.cascade.records import TargetOutcome
from rcc.errors import UserError, WorkError
from rcc.reporting import wandb_logger
from rcc.reporting.observers import Observers
from rcc.reporting.wandb_logger import WandbObserver


@pytest.fixture(autouse=True)
def no_key(tmp_path_factory, monkeypatch):
    """A home without credentials, and none of W&B's variables."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home / name))
    return home


def play(observer, steps, baseline, records, summary, delivery, finished: int = 0) -> None:
    observer.run_started(steps, finished)
    observer.baseline_measured(baseline)
    for record in records[finished:]:
        for attempt in record.attempts:
            observer.attempt_finished(record.step, attempt)
        observer.step_finished(record)
    observer.run_finished(summary)
    observer.delivered(delivery)


def written_by_the_service(recorded: Path, patience: float = 20.0) -> bytes:
    """The record's bytes. W&B's own process writes them, the last of them a moment after `finish` returns."""
    waited_until = time.monotonic() + patience
    while b"manifest.json" not in recorded.read_bytes() and time.monotonic() < waited_until:
        time.sleep(0.05)
    return recorded.read_bytes()


@pytest.fixture
def run(tmp_path, steps, baseline, records, summary, delivery):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "manifest.json").write_text(json.dumps({"format": 1}))
    return steps, baseline, records, summary, replace(delivery, artifact=str(artifact))


def test_without_a_key_a_whole_run_of_a_sweep_is_recorded_offline_and_read_back(tmp_path, run, no_key):
    directory = tmp_path / "day/time/3"
    directory.mkdir(parents=True)
    (directory.parent / "sweep.json").write_text("{}")
    steps, baseline, records, summary, delivery = run
    summary = replace(summary, target=TargetOutcome(100_000, 99_000, 1))
    settings = {"stage": {"dare": {"target_sparsity": 0.9}, "quant": {}}}
    with Observers([], loggers=[WandbObserver(directory, settings, tags=["digits"])]) as observers:
        play(observers, steps, baseline, records, summary, delivery)
    [recorded] = (directory / "wandb").glob("offline-run-*/*.wandb")
    content = written_by_the_service(recorded)
    said = read(recorded)
    about, kept = said["run"], said["summary"]
    assert (about.run_group, about.job_type, list(about.tags)) == ("day/time", "dare+quant", ["digits"])
    assert about.display_name == "time/3"
    assert said["config"]["sweep"] == {"id": "time", "trial": "3"}
    assert said["config"]["stage"]["dare"]["target_sparsity"] == 0.9
    assert [row["step/index"] for row in said["history"] if "step/index" in row] == [0, 1, 2, 3]
    assert kept["stage/001-dare/retention"] == 0.99
    assert kept["stage/002-nullu/outcome"] == "skipped"
    assert kept["stage/003-alpha/bytes"] == 900_000
    assert kept["attempt/001-dare/1/seconds"] == records[0].attempts[0].seconds
    assert kept["test/compressed/accuracy"] == 0.9917
    assert kept["test/compressed/accuracy.low"] == pytest.approx(0.9797)
    assert any(name.endswith(".standard_error") for name in kept)
    assert (kept["test/difference/accuracy"], kept["test/difference/accuracy.low"]) == (-0.0055, -0.0189)
    assert "test/difference/top5_accuracy.low" not in kept
    assert kept["disk/dense_float32_bytes"] == 5_050_000
    assert kept["target/bytes"] == 100_000
    assert (kept["layers/_type"], kept["layers/ncols"]) == ("table-file", 4)
    assert b"manifest.json" in content
    assert list(no_key.rglob("*manifest*")) == []
    assert "environment" not in said["kinds"], "nothing of the machine"
    assert not about.host
    shown = json.dumps([said["config"], kept, said["history"]])
    assert str(tmp_path) not in shown


def test_two_jobs_of_a_sweep_make_two_runs_and_a_resumed_one_keeps_its_id(tmp_path, run):
    import wandb

    ids = []
    for job in ("0", "1", "1"):
        directory = tmp_path / job
        directory.mkdir(exist_ok=True)
        observer = WandbObserver(directory, {})
        observer.run_started(run[0], 0)
        ids.append(observer._run.id)
        observer.close()
        assert wandb.run is None
    assert ids[0] != ids[1] == ids[2]


def test_the_jobs_of_a_sweep_share_a_group_and_every_attempt_is_told(tmp_path, run):
    (tmp_path / "day/time/3").mkdir(parents=True)
    (tmp_path / "day/time/sweep.json").write_text("{}")
    observer = WandbObserver(tmp_path / "day/time/3", {"stage": {"dare": {}, "quant": {}}})
    observer.run_started(run[0], 0)
    record = run[2][0]
    observer.attempt_finished(record.step, record.attempts[0])
    observer.step_finished(record)
    said = dict(observer._run.summary)
    assert (observer._run.group, observer._run.job_type) == ("day/time", "dare+quant")
    assert dict(observer._run.config)["sweep"] == {"id": "time", "trial": "3"}
    assert said["attempt/001-dare/1/seconds"] == record.attempts[0].seconds
    observer.close()
    alone = WandbObserver(tmp_path, {}, group="mine")
    assert alone._filed["group"] == "mine"
    assert "sweep" not in alone.config


def test_a_missing_package_is_one_warning_with_the_command_and_the_run_goes_on(tmp_path, run, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Observers([WandbObserver(tmp_path, {})]) as observers:
        play(observers, *run)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WandbObserver failed" in caplog.text
    assert "pip install 'rcc[wandb]'" in caplog.text


def test_a_missing_package_without_the_fan_out_is_an_error(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(WorkError, match="cannot be imported"):
        WandbObserver(tmp_path, {}).run_started(run[0], 0)


def test_online_without_a_key_is_refused_before_the_run(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"logger 'wandb': mode=online needs a key: `wandb login` stores one"):
        WandbObserver(tmp_path, {}, mode="online")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert WandbObserver(tmp_path, {}, mode="online").mode == "online"


def test_an_unknown_mode_is_refused_before_the_run(tmp_path):
    with pytest.raises(UserError, match=r"logger 'wandb': unknown mode 'ofline'\. Did you mean 'offline'"):
        WandbObserver(tmp_path, {}, mode="ofline")


def test_auto_is_offline_without_a_key():
    assert wandb_logger._mode("auto") == "offline"


def test_auto_is_online_with_a_key_in_the_environment(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_logger._mode("auto") == "online"


@pytest.mark.parametrize(("host", "mode"), [("api.wandb.ai", "online"), ("example.com", "offline")])
def test_auto_is_online_with_a_key_for_the_right_host_in_a_netrc(no_key, host, mode):
    file = Path(no_key) / ".netrc"
    file.write_text(f"machine {host} login user password {'x' * 40}\n")
    file.chmod(0o600)
    assert wandb_logger._mode("auto") == mode


def test_a_broken_netrc_is_no_key(no_key, monkeypatch):
    (Path(no_key) / "odd").write_text("machine\n")
    monkeypatch.setenv("NETRC", str(Path(no_key) / "odd"))
    assert wandb_logger._mode("auto") == "offline"


def test_wandb_mode_decides_for_auto_and_an_explicit_mode_beats_it(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger._mode("auto") == "disabled"
    assert wandb_logger._mode("offline") == "offline"


def test_closing_without_a_start_does_nothing(tmp_path):
    WandbObserver(tmp_path, {}).close(failed=True)
