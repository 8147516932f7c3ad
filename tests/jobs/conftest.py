"""`rcc-run` in this process and in a fresh one, in an empty folder of the test's own."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def rcc_run(tmp_path, monkeypatch, capsys):
    """Runs a command line in-process; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        from rcc.cli import main

        code = main(list(arguments))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def fresh_rcc_run(tmp_path):
    """Starts a command line in a process of its own, in the same folder as `rcc_run`."""

    def start(*arguments):
        stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, signal.SIG_DFL) for number in stopping]  # a child inherits what is ignored
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "rcc.cli", *arguments],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        finally:
            for number, held in zip(stopping, before, strict=True):
                signal.signal(number, held)

    return start


@pytest.fixture
def model_arguments(checkpoint_of):
    """What a command says for the small random model of a model=, or the trained one of clip_tiny."""

    def arguments(name):
        if name == "clip_tiny":
            return ["model=clip_tiny"]
        own = ["model.target=toys.networks:ResNet", "model.image_size=32"] if name == "module" else []
        return [f"model={name}", f"model.path={checkpoint_of(name)}", *own]

    return arguments


@pytest.fixture
def small_clip(model_arguments):
    """What a command says for a CLIP that is compressed in a second, where the model is not what is claimed about."""
    return model_arguments("clip")


@pytest.fixture
def data_arguments(data_set):
    """What a command says for the small data set of a data=."""
    sizes = {
        "cifar10": {"calibration": 20, "selection": 10, "test": 20},
        "cifar100": {"calibration": 100, "selection": 100, "test": 100},
        "coco": {"calibration": 6, "selection": None},
        "conceptual_captions": {"calibration": 4, "selection": 4, "test": 4},
        "cranfield": {"calibration": 4},
        "digits": {"train": 100, "calibration": 20, "selection": 20, "test": 40},
        "documents": {"calibration": 4},
        "flickr30k": {"calibration": 6},
        "flickr8k": {"calibration": 6},
        "fsdd": {"calibration": 4, "selection": 6},
        "image_folder": {"calibration": 8, "selection": 6},
        "image_text": {"calibration": 4, "selection": 4, "test": 4},
        "imagenet": {"calibration": 10, "selection": 5, "classes": "present"},
        "speech_folder": {"train": 6, "calibration": 3, "selection": 3, "test": 10},
    }

    def arguments(name):
        given = [f"data.{key}={'null' if value is None else value}" for key, value in sizes[name].items()]
        return [f"data={name}", *([] if name == "digits" else [f"data.path={data_set(name)}"]), *given]

    return arguments
