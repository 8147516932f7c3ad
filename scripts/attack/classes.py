"""Draw the inputs of each class of attack: command lines, artifacts, checkpoints, data, disks, runs, paths."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shlex
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import base
import files
import hostile
import numpy as np
import small_disk
from PIL import Image
from trial import CRASHED, Trial, half_written

Draw = Callable[[random.Random, Path], Trial]
SMALL = ("debug=quick", "threads=1", "data.train=20", "data.calibration=10", "data.selection=10", "data.test=10")
EVALUATE = ("job=evaluate", *SMALL)
ODD = " '\"=,#[]{}()éü漢$&;!~%@+"
OWNED = "owned"
"""A file that hostile code would leave."""


def not_owned(folder: Path, code: int) -> str:
    """A complaint where something that an input named was run."""
    return "code of the input was run" if list(folder.rglob(OWNED)) else ""


def trial(folder: Path, words: list[str], label: str = "", allowed: tuple[int, ...] = (0, 2)) -> Trial:
    return Trial(label or shlex.join(words), folder, partial(base.command, *words), allowed, partial(not_owned, folder))


@cache
def options() -> list[tuple[list[str], str]]:
    """Every option of every choice, with the words that choose it."""
    from omegaconf import OmegaConf

    from rcc import shipped
    from rcc.composing.composition import composer, own

    found = []
    with composer() as configs:
        for group in ("data", "eval", "model", "schedule", "stage", "trainer"):
            for choice in shipped.choices(shipped.config_dir(), group):
                words = ["eval=zero_shot+efficiency"] if choice == "efficiency" else [f"{group}={choice}"]
                words = ["job=train", *words] if group == "trainer" else words
                node: Any = OmegaConf.to_container(own(configs.compose(words)))
                node = (
                    {f"{group}.{choice}": node[group][choice]} if group in ("eval", "stage") else {group: node[group]}
                )
                found += [(words, place) for place in leaves(node) if "_target_" not in place]
        for job in shipped.choices(shipped.config_dir(), "job"):
            node = shipped.default_options(shipped.config_dir(), job) | {"seed": 0, "threads": None, "device": ""}
            found += [([f"job={job}"], place) for place in leaves(node)]
    return found


def leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in node.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from leaves(value, place)
        else:
            yield place


def command_lines(source: random.Random, folder: Path) -> Trial:
    """One option with a drawn value; where the job can be planned, only planned."""
    words, option = source.choice(options())
    training = any(word in ("job=train", "job=evaluate") for word in words)
    rest = [*SMALL, "trainer.epochs=1"] if "job=train" in words else [*SMALL]
    kept = [word for word in rest if not word.startswith(f"{option}=") and (not word.startswith("data.") or training)]
    extra = kept if training else ["dry_run=true"]
    return trial(folder, [*words, *extra, f"{option}={hostile.argument(source)}"])


INJECTIONS = (
    "model=module model.target=os:system model.arguments={{command: 'touch owned'}}",
    "stage.dare._target_=os.system +stage.dare.command='touch owned'",
    "data._target_=subprocess.run", "eval.zero_shot._target_=builtins.eval", "job._target_=os.system",
    "hydra.searchpath=[file://{text}]", "hydra.run.dir={text}", "hydra.sweep.dir={text} -m seed=1,2 dry_run=true",
    "+x={text}", "~{text}", "~gate", "gate={text}", "--config-dir {text}", "--config-name {text}", "-cp {text}",
    "--{text}", "-{text}", "--cfg {text}", "--info {text}", "-p {text}", "resume={text}", "artifact={text}",
    "stage={text}", "model={text}", "data={text}", "eval={text}", "experiment={text}", "debug={text}", "job={text}",
    "{text}={text}", "{text}", "seed={text} seed={text}", "-m seed={text} dry_run=true", "model.path={text} model=clip",
    "stage=dare+{text}", "stage.dare@x={text}", "+stage/dare@y=dare", "hydra/launcher={text}", "hydra.mode=MULTIRUN",
    "'stage.dare.include=[{text}]'", "stage.dare.target_sparsity=${{oc.env:HOME}}", "seed=${{oc.decode:{text}}}",
    "seed=${{{text}}}", "hydra.job.env_set={{A: {text}}}", "hydra.callbacks.x._target_=os.system",
)  # fmt: skip


def injections(source: random.Random, folder: Path) -> Trial:
    """A line that asks for code, for Hydra's own options or for flags that nobody offers."""
    template = source.choice(INJECTIONS)
    with contextlib.suppress(ValueError):
        words = shlex.split(template.replace("{text}", "\0").replace("{{", "{").replace("}}", "}"))
        words = [word.replace("\0", source.choice(hostile.TEXTS)) for word in words]
        planned = [] if any(word.startswith(("job=", "resume=", "artifact=")) for word in words) else ["dry_run=true"]
        return trial(folder, [*words, *planned], allowed=(0, 1, 2) if "model.target" in template else (0, 2))
    raise AssertionError(template)


def artifacts(source: random.Random, folder: Path) -> Trial:
    folder.mkdir(parents=True)
    what = files.attacked(source, folder / "artifact", base.artifact())
    return trial(folder, [*EVALUATE, "artifact=artifact"], f"artifact: {what}")


def checkpoints(source: random.Random, folder: Path) -> Trial:
    folder.mkdir(parents=True)
    what = files.attacked(source, folder / "model", base.checkpoint())
    # 1: weights that load and whose outputs are not finite are told after the work began.
    return trial(folder, [*EVALUATE, "model=clip", "model.path=model"], f"checkpoint: {what}", allowed=(0, 1, 2))


@cache
def data_sets() -> dict[str, Path]:
    """A folder of images in classes, a table of images with captions, and the same as JSON lines."""
    source, root = np.random.default_rng(0), base.scratch() / "data"
    pictures = [Image.fromarray(source.integers(0, 256, (40, 36, 3), np.uint8)) for _ in range(32)]
    rows = []
    for number, picture in enumerate(pictures):
        place = root / "image_folder" / ("cat", "big_dog")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)
        for kind in ("csv", "jsonl"):
            (root / kind / "images").mkdir(parents=True, exist_ok=True)
            picture.save(root / kind / "images" / f"{number}.png")
        rows.append({"image": f"images/{number}.png", "caption": f"picture number {number}"})
    (root / "csv/captions.csv").write_text("\n".join(["image,caption", *(",".join(row.values()) for row in rows)]))
    (root / "jsonl/captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {kind: root / kind for kind in ("image_folder", "csv", "jsonl")}


def data(source: random.Random, folder: Path) -> Trial:
    folder.mkdir(parents=True)
    kind = source.choice(("image_folder", "csv", "jsonl"))
    names = () if kind == "image_folder" or source.random() < 0.4 else (f"captions.{kind}",)
    what = files.attacked(source, folder / "data", data_sets()[kind], names)
    if kind == "image_folder":
        words = ["data=image_folder", "data.path=data", "eval=zero_shot"]
    else:
        words = ["data=image_text", f"data.path=data/captions.{kind}", "eval=retrieval"]
    sizes = ("data.train=0", "data.calibration=4", "data.selection=4", "data.test=8")
    return trial(folder, ["job=evaluate", "threads=1", *words, *sizes], f"{kind}: {what}")


def disks(source: random.Random, folder: Path) -> Trial:
    """A disk of few bytes or few files, files of a size at most, or something in the way."""
    words = [*base.QUICKER, "hydra.run.dir=run"]
    kind = source.random()
    if kind < 0.3:
        folder.mkdir(parents=True)
        blocked = source.choice(
            ("run", "run/state", "run/artifact", "run/.hydra", "run/report.md", "run/metrics.jsonl")
        )
        (folder / blocked).parent.mkdir(parents=True, exist_ok=True)
        if Path(blocked).suffix:
            (folder / blocked).mkdir()
        else:
            (folder / blocked).write_text("in the way")
        # The log of metrics is an observer: where it fails the run goes on without it, and says so.
        allowed = (0,) if blocked == "run/metrics.jsonl" else (1, 2)
        return trial(folder, words, f"something where {blocked} would be", allowed=allowed)
    if kind < 0.65 and small_disk.may_mount():
        size = f"size={int(10 ** source.uniform(3.6, 7))}"
        options = source.choice((size, f"nr_inodes={source.randrange(2, 70)}"))
        return Trial(f"a disk of {options}", folder, partial(on_a_small_disk, folder, options, words), allowed=(0, 1))
    most = int(10 ** source.uniform(1, 6))

    def limited() -> int:
        said, (_, hard) = io.StringIO(), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = base.command(*words)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # what was said is written to a file too
        print(said.getvalue())
        return code

    return Trial(f"files of {most} bytes at most", folder, limited, allowed=(0, 1, 2))


def on_a_small_disk(folder: Path, options: str, words: list[str]) -> int:
    """Run with the working directory on a disk of its own; what is half written there is a crash."""
    small_disk.mount(folder, options)
    os.chdir(folder)
    code = base.command(*words)
    left = half_written(folder) if code != 0 else []
    print(*(f"left {path}" for path in left))
    return CRASHED if left else code


def run_directories(source: random.Random, folder: Path) -> Trial:
    """A run that ended before it delivered, damaged, and resumed."""
    folder.mkdir(parents=True)
    what = files.attacked(source, folder / "run", base.interrupted_run())
    if source.random() < 0.2:
        text = source.choice(("model.target=os:system", "stage.dare._target_=os.system", "hydra.job.chdir=true"))
        with contextlib.suppress(OSError), (folder / "run/.hydra/overrides.yaml").open("a") as file:
            file.write(f"- {text}\n")
        what += f"; overrides have {text}"
    return trial(folder, ["resume=run"], f"run directory: {what}", allowed=(0, 1, 2))


def paths(source: random.Random, folder: Path) -> Trial:
    """A run in a directory with an odd name; the commands that it prints are run."""
    name = "".join(source.choice(ODD + "abc") for _ in range(source.randrange(1, 9))).strip("~") or "x"

    def run() -> int:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = base.command(*base.QUICKER, f"hydra.run.dir={name}")
        print(said.getvalue())
        lines = [line.partition(": ")[2] for line in said.getvalue().splitlines() if ": rcc-run " in line]
        for line in [*lines, shlex.join(["rcc-run", f"resume={name}"])] if code == 0 else []:
            code = code or base.command(*shlex.split(line)[1:])
        return code

    # '${' begins an interpolation, in quotes too: what does not end one cannot be given to any option.
    return Trial(f"a run in {name!r}", folder, run, allowed=(2,) if "${" in name else (0,))


CLASSES: dict[str, Draw] = {
    "random command-line values over all options": command_lines,
    "hand-written injections and odd flags": injections,
    "mutated or malicious artifacts": artifacts,
    "broken or malicious checkpoints": checkpoints,
    "broken data": data,
    "disk full, no inodes, size limits, files in the way": disks,
    "damaged run directories, then resume": run_directories,
    "output paths with odd characters, printed commands run": paths,
}
