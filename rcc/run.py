"""Run a composed config: instantiate what it describes, and do the job that it asks for.

This is the one place where Hydra instantiates; the jobs take plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rcc.cascade.bytes.balance import balancing, no_strength
from rcc.cascade.gate import Gate
from rcc.cascade.schedule import Schedule, order_problems
from rcc.errors import Problems, UserError
from rcc.evaluation.suite import load_suite
from rcc.jobs.compress import compress
from rcc.jobs.evaluate import evaluate
from rcc.jobs.plan import show_plan
from rcc.jobs.request import Request
from rcc.jobs.subjects import subjects_of
from rcc.jobs.target import check_target
from rcc.jobs.train import TRAINERS, train
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.entropy import ENTROPIES
from rcc.models.device import pick_device
from rcc.runtime.optimise import RUNTIMES
from rcc.stages.base import Stage

JOBS: dict[str, Callable[[Request], tuple[float, float] | None]] = {
    "compress": compress,
    "train": train,
    "evaluate": evaluate,
}
T = TypeVar("T")


def run(cfg: DictConfig) -> tuple[float, float] | None:
    """Do the job that `cfg` describes, in the directory that Hydra chose.

    Returns:
        For job=compress (retention on the selection split, bytes of the artifact's directory), the two
        objectives of a sweep; otherwise None.

    Raises:
        UserError: every problem of the config at once, or an input that turns out wrong.
        WorkError: the work failed.
    """
    runtime = HydraConfig.get()
    request = read(cfg, _as_typed(runtime.runtime.output_dir), list(runtime.overrides.task))
    if request.resumed and cfg.job.name != "compress":
        raise UserError(
            f"resume={request.settings['resume']}: job={cfg.job.name} has no steps to continue from; only job=compress "
            "resumes. Start it afresh, without resume=."
        )
    if cfg.dry_run:
        show_plan(request)
        return None
    return JOBS[cfg.job.name](request)


def problems(cfg: DictConfig) -> list[str]:
    """Everything that is wrong with a composed config, without doing anything; empty when nothing is."""
    try:
        read(cfg, Path("."), [])
    except UserError as error:
        return list(error.problems)
    return []


def read(cfg: DictConfig, directory: Path, overrides: list[str]) -> Request:
    """Build every object the config describes, collecting what each refuses.

    Raises:
        UserError: all the problems found.
    """
    found = Problems()
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    found.choice("job", settings["job"]["name"], JOBS)
    found.choice("export.dtype", settings["export"]["dtype"], STORED_DTYPES)
    found.choice("export.entropy", settings["export"]["entropy"], ENTROPIES)
    for name, least in (("seed", 0), ("threads", 1)):
        value = settings[name]
        given = value is not None or name == "seed"
        found.check(
            not given or (type(value) is int and value >= least),
            f"{name} is {value}; it must be a whole number ≥ {least}.",
        )
    check_target(settings, found)
    keep_last, batch_size = settings["state"]["keep_last"], settings["calibration"]["batch_size"]
    found.check(type(keep_last) is int and keep_last >= 1, f"state.keep_last is {keep_last}; it must be 1 or more.")
    found.check(
        type(batch_size) is int and batch_size >= 1, f"calibration.batch_size is {batch_size}; it must be 1 or more."
    )
    path = settings["model"].get("path")
    found.check(
        path is None or isinstance(path, str),
        f"model.path is {path}, which YAML reads as a {type(path).__name__}; write model.path=./{path}.",
    )
    if settings["job"]["name"] == "evaluate":
        _collect(found, subjects_of, settings["artifact"])
    if settings["job"]["name"] == "train":
        found.choice("trainer for job=train", settings["trainer"]["name"], TRAINERS)
    if found.choice("runtime", settings["runtime"], RUNTIMES):
        found.check(
            settings["runtime"] == "dense" or settings["job"]["name"] == "evaluate",
            f"runtime={settings['runtime']} is for job=evaluate; job={settings['job']['name']} runs models as stored.",
        )
    _collect(found, pick_device, str(settings["device"]))
    stages = [_collect(found, _stage, label, node) for label, node in cfg.stage.items()]
    cascade = [stage for stage in stages if stage is not None]
    found.found.extend(order_problems(cascade))
    if settings["job"]["name"] == "compress" and len(cascade) == len(stages) > 0:
        targeted = not (settings["target_ratio"] is None and settings["target_bytes"] is None)
        found.check(not targeted or balancing(cascade) is not None, no_strength(cascade))
    suite = _collect(found, load_suite, settings["eval"])
    if suite is not None and settings["job"]["name"] != "evaluate":
        found.check(not suite.leads_with_costs, suite.costs_alone())
    request = Request(
        settings=settings,
        directory=directory,
        overrides=overrides,
        stages=cascade,
        schedule=_collect(found, Schedule, **settings["schedule"]) or Schedule(),
        gate=_collect(found, Gate, **settings["gate"]) or Gate(),
        suite=suite,
        config_text=OmegaConf.to_yaml(cfg, resolve=True),
    )
    found.done()
    return request


def _as_typed(directory: str) -> Path:
    """A directory below the current one relative to it, as the user would type it; any other as it is."""
    path = Path(directory)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _stage(label: str, node: DictConfig) -> Stage:
    """The stage a node describes. Only a class of stages is ever called, whatever the config names."""
    where = f"stage.{label}"
    target = str(node.get("_target_", ""))
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: its _target_ '{target}' cannot be imported ({error}).") from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise UserError(f"{where}: its _target_ '{target}' is not a subclass of rcc.stages.base.Stage.")
    try:
        stage: Stage = instantiate(node, _convert_="all", _execution_whitelist_=target)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise UserError(*error.__cause__.problems) from error
        raise UserError(f"{where}: {error.__cause__ or error}") from error
    return stage.labelled(str(label))


def _collect(found: Problems, build: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
    """The object, or None after its problems were noted."""
    try:
        return build(*arguments, **options)
    except UserError as error:
        found.found.extend(error.problems)
    except TypeError as error:
        found.found.append(str(error))
    return None
