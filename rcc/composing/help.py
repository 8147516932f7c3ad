"""Print `rcc-run --help`, with choices, defaults and explanations read from the config files."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from rcc import shipped
from rcc.composing import joined

WIDTH = 110
DOCUMENTATION = "docs/ of the repository: configuration.md, run-directory.md, artifact-format.md, method/"

INTRODUCTION = """\
rcc-run makes a vision-language model small by an ordered cascade of stages, shows what each stage cost, and
writes an artifact that loads and runs.

  rcc-run [key=value ...]            one run, in outputs/<date>/<time>/
  rcc-run -m [key=value,value ...]   a sweep: one job for each combination, in multirun/<date>/<time>/
"""

TOPICS = """\
Run
  rcc-run                                      the default: a small real CLIP, real data, no download
  rcc-run dry_run=true                         only the plan: units, order, budgets, expected bytes
  rcc-run model=clip model.path=<directory>    your own CLIP

Stages
  rcc-run stage=nullu+dare                     any order, any repeat: joined by '+'
  rcc-run stage.dare.target_sparsity=0.8       an option of a stage
  rcc-run stage=dare+nullu+dare stage.dare_2.target_sparsity=0.9      a repeat has a number

Sweep
  rcc-run -m stage=dare+nullu,nullu+dare       does the order matter?
  rcc-run -m experiment=pareto                  search for retention up and bytes down, with Optuna

Resume
  rcc-run resume=outputs/<date>/<time>         continue after the last finished step
  rcc-run resume=latest                        the newest run there is

Train
  rcc-run job=train data=<data set>            a small CLIP from scratch; resume= continues it too

Evaluate
  rcc-run job=evaluate artifact=outputs/<date>/<time>/artifact        measure an artifact again
  rcc-run job=evaluate artifact=[dense,<artifact>,<artifact>] eval=zero_shot+efficiency      side by side
  rcc-run job=show artifact=<artifact>                                what is in an artifact, in bytes

Look back
  rcc-run job=runs                             the runs and sweeps there are; action=show|diff|verify|clean
  rcc-run job=report runs=[<run>,<sweep>]      report.html of several, side by side
"""

FLAGS = """\
Flags
  -h, --help              this text
  --version               the version
  -m, --multirun          run a sweep
  --cfg job               print the composed configuration and stop
  --info defaults-tree    print which file each part of it comes from
  --config-dir <folder>   a folder with further choices of yours, such as experiment/mine.yaml
  --hydra-help            flags of Hydra, on which this is built
  Completion in the shell: eval "$(rcc-run -sc install=bash)"; also zsh and fish

Exit codes: 0 done, 1 the work failed, 2 something asked for is wrong, 130 interrupted
(143 by SIGTERM, 129 by a hang-up).
HYDRA_FULL_ERROR=1 shows the stack of an error."""


def help_text(directory: Path | None = None) -> str:
    """The whole text; `directory` holds the config files."""
    directory = directory or shipped.config_dir()
    shared = _options(directory, "Options of every job (key=value; the default shown)")
    own = [_options(directory, f"Options of job={job}", job) for job in shipped.choices(directory, "job")]
    parts = [INTRODUCTION, TOPICS, _jobs(directory), _groups(directory), shared, *filter(None, own), FLAGS]
    return "\n".join(parts) + f"\n\nDocumentation: {DOCUMENTATION}"


def _jobs(directory: Path) -> str:
    lines = ["Jobs"]
    for job in shipped.choices(directory, "job"):
        lines.append(_wrapped(f"  {'job=' + job:<13} ", shipped.about(directory, "job", job)))
    return "\n".join(lines) + "\n"


def _groups(directory: Path) -> str:
    """One line a group: its choices, the default in brackets."""
    defaults: dict[str, str | None] = {}
    for job in (*shipped.choices(directory, "job"), None):  # the default job's last
        defaults |= shipped.default_choices(directory, job)
    lines = ["Config groups (group=choice; the default in brackets)"]
    for group in shipped.groups(directory):
        names, default = shipped.choices(directory, group), defaults.get(group)
        if group in joined.GROUPS:
            shown = [*names, f"joined by '+', {joined.GROUPS[group].order} [{default}]"]
        else:
            shown = [f"[{name}]" if name == default else name for name in names]
        lines.append(_wrapped(f"  {group:<11}", " ".join(shown)))
    return "\n".join(lines) + "\n"


def _options(directory: Path, title: str, job: str | None = None) -> str:
    """The options of a job, or those of all, with their defaults and the comment beside each; empty where none is."""
    file = directory / "config.yaml" if job is None else directory / "job" / f"{job}.yaml"
    comments, options = _comments(file), shipped.default_options(directory, job)
    lines = [title]
    for key, value in options.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for name, default in pairs:
            path = f"{key}.{name}" if name else key
            lines.append(_wrapped(f"  {f'{path}={_shown(default)}':<27} ", comments.get(path, "")))
    if job is None:
        lines.append("  Options of a choice are in its file, each with unit and range: rcc-run --cfg job -p <group>")
    return "\n".join(lines) + "\n" if options else ""


def _comments(path: Path) -> dict[str, str]:
    """The comment at the end of each option's line, under the option's dotted path."""
    found: dict[str, str] = {}
    parent = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        setting, _, comment = line.partition("#")
        key = setting.strip().partition(":")[0].strip('"')  # YAML reads a bare yes as true
        if not key or key.startswith("-"):
            continue
        if not setting.startswith(" "):
            parent = key
        found[f"{parent}.{key}" if setting.startswith(" ") else key] = comment.strip()
    return found


def _shown(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(head: str, text: str) -> str:
    indent = " " * len(head)
    return fill(text, WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False) or head.rstrip()
