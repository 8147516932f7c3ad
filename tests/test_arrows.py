"""Who may import whom, and the few other rules that hold for every file of the project."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from toys.import_graph import imports, imports_of, modules, reached

ROOT = Path(__file__).parents[1]
MODULES = modules(ROOT, "rcc", "hydra_plugins")
PROGRAMS = {
    f"{folder}.{path.stem}": path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).glob("*.py")
}

EVERYWHERE = (
    "errors",
    "limits",
    "locks",
    "measurement",
    "option_types",
    "atomic",
    "command_line",
    "memory",
    "nested",
    "plugins",
    "randomness",
    "shared",
    "shipped",
)
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "measurement": (),
    "atomic": (),
    "command_line": (),
    "nested": (),
    "option_types": (),
    "plugins": (),
    "shared": (),
    "randomness": (),
    "shipped": (),
    "memory": (),
    "limits": (),
    "locks": (),
    "ops": (),
    "layers": ("ops",),
    "calibration": ("layers", "ops"),
    "learning": ("layers", "ops"),
    "analysis": ("layers", "ops"),
    "stages": ("learning", "calibration", "layers", "ops", "models"),
    "models": ("layers", "ops"),
    "data": ("models", "layers.model"),
    "evaluation": ("models", "data", "layers", "runtime", "artifact.size"),
    "training": ("learning", "models", "data", "evaluation", "layers", "ops"),
    "artifact": ("layers", "learning", "models"),
    "runtime": ("layers", "ops"),
    "cascade": ("stages.base", "stages.named", "calibration", "layers", "ops", "artifact", "analysis", "models"),
    "reporting": (
        *("cascade.records", "cascade.plan", "runtime.records"),
        *("artifact.manifest", "artifact.container", "artifact.parts", "sweeps"),
    ),
    "engine": ("artifact", "models", "data.files", "layers.model"),
    "store": (),
    "conversion": ("models", "layers"),
    "serving": ("engine", "store", "artifact", "models", "data.files", "__version__", "layers"),
    "composing": ("sweeps",),
    "sweeps": (),
    "assets": (),
}
"""What each package may import beside itself and `EVERYWHERE`. `cli`, `run` and `jobs` put things together and
may import anything below them, but nothing imports those three except one another."""
ON_TOP = {"cli": ("composing", "run"), "run": ("cli",), "jobs": ("cli", "composing", "run")}
"""`cli` may import only these; `run` and `jobs` may import anything but these."""

HYDRA = ("hydra", "omegaconf")
MAY_IMPORT_HYDRA = ("rcc.cli", "rcc.run", "rcc.composing", "hydra_plugins")
HEAVY = ("torch", "transformers", "accelerate", "datasets", "safetensors", "numpy", "scipy", "sklearn", "wandb")
UNSAFE_MODULES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
UNSAFE_CALLS = ("torch.load", "torch.save", "torch.jit.load", "np.load", "numpy.load")
LONG_ENOUGH_FOR_A_TEST = 100
NO_VERB = {"what", "how", "where", "which", "whether", "who", "why", "a", "an", "the", "any", "all", "in", "from"}
"""First words of titles that are noun clauses. A module's docstring opens with a verb and its object."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
MOST_LINES = 400


def within(target: str, *names: str) -> bool:
    """Whether a dotted name is one of `names` or lies below one."""
    return any(target == name or target.startswith(f"{name}.") for name in names)


def own_package(name: str) -> str:
    """'ops' for 'rcc.ops.select', '' for the root package and the plugins."""
    parts = name.split(".")
    return parts[1] if parts[0] == "rcc" and len(parts) > 1 else ""


def forbidden(package: str, target: str) -> bool:
    """Whether a module of `package` must not import `target` ('ops.select', without the leading 'rcc.')."""
    if within(target, package, *EVERYWHERE):
        return False
    if package == "cli":
        return not within(target, *ON_TOP["cli"], "__version__")
    if package in ON_TOP:
        return within(target, *ON_TOP[package])
    return not within(target, *MAY_IMPORT[package])


def local_imports(name: str) -> list[tuple[str, int]]:
    found = imports_of(name, MODULES[name])
    return [(each.target.removeprefix("rcc."), each.line) for each in found if within(each.target, "rcc")]


PACKAGES = sorted({own_package(name) for name in MODULES} - {""})


def test_every_package_has_its_arrows_written_down():
    assert set(PACKAGES) - set(MAY_IMPORT) - set(ON_TOP) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_arrows_allow(package):
    found = [
        f"{MODULES[name].relative_to(ROOT)}:{line} imports rcc.{target}"
        for name in MODULES
        if own_package(name) == package
        for target, line in local_imports(name)
        if forbidden(package, target)
    ]
    assert found == []


def test_operations_import_torch_and_the_standard_library_alone():
    found = [
        f"{name}:{each.line} imports {each.target}"
        for name, path in MODULES.items()
        if own_package(name) == "ops"
        for each in imports_of(name, path)
        if (top := each.target.split(".")[0]) not in ("torch", "rcc") and top not in sys.stdlib_module_names
    ]
    assert found == []


def test_only_the_entrypoint_the_composition_and_the_plugins_import_hydra():
    found = [
        f"{name}:{each.line} imports {each.target}"
        for name, path in MODULES.items()
        if not within(name, *MAY_IMPORT_HYDRA)
        for each in imports_of(name, path)
        if within(each.target, *HYDRA)
    ]
    assert found == []


def test_help_and_composition_load_nothing_heavy():
    light = [name for name in MODULES if within(name, "rcc.cli", "rcc.composing", "hydra_plugins")]
    chains = reached(light, MODULES)
    assert "rcc.errors" in chains
    assert {name: " → ".join(chain) for name, chain in chains.items() if within(name, *HEAVY)} == {}


@pytest.mark.parametrize("name", sorted(MODULES | PROGRAMS))
def test_a_module_is_short_well_named_and_says_what_it_is_for(name):
    path = (MODULES | PROGRAMS)[name]
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MOST_LINES
    assert not VAGUE_NAMES & set(name.replace(".", "_").split("_"))
    assert (ast.get_docstring(ast.parse(source)) or "").strip()


def has_its_own_test(name: str) -> bool:
    """Whether tests/ has test_<name>.py, or test_<name>_<aspect>.py, in the folder that mirrors the module's."""
    *folders, last = name.split(".")[1:]
    folder = ROOT.joinpath("tests", *folders)
    return any([*folder.glob(f"test_{last}.py"), *folder.glob(f"test_{last}_*.py")])


def test_a_long_module_has_a_test_of_its_name():
    long = {
        name
        for name, path in MODULES.items()
        if path.name != "__init__.py"
        and name.startswith("rcc.")
        and path.read_text(encoding="utf-8").count("\n") > LONG_ENOUGH_FOR_A_TEST
    }
    assert {name for name in long if not has_its_own_test(name)} == set()


def opens_with_a_noun_clause(source: str) -> bool:
    title = (ast.get_docstring(ast.parse(source)) or "").split()
    return not title or title[0].strip("`:,").lower() in NO_VERB


def test_the_docstring_of_a_module_opens_with_a_verb():
    found = [name for name, path in MODULES.items() if opens_with_a_noun_clause(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("title", "noun"),
    [("How rows are cut.", True), ("A forward that waits.", True), ("Cut rows.", False), ("`rcc.load`: load.", False)],
)
def test_the_search_for_noun_clauses_finds_them(title, noun):
    assert opens_with_a_noun_clause(f'"""{title}"""') is noun


def unsafe(source: str) -> list[str]:
    """Everything in a source that could run code hidden in a file: pickle in any of its disguises."""
    found = [each.target for each in imports(source) if within(each.target, *UNSAFE_MODULES, *UNSAFE_CALLS)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = [keyword.arg for keyword in node.keywords]
            if called in UNSAFE_CALLS or "allow_pickle" in options or "weights_only" in options:
                found.append(called)
    return found


@pytest.mark.parametrize("name", sorted(MODULES | PROGRAMS))
def test_nothing_is_ever_unpickled(name):
    assert unsafe((MODULES | PROGRAMS)[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "def f():\n    import dill",
        "import torch\ntorch.load('x', weights_only=True)",
        "import numpy as np\nnp.load('x')",
        "read('x', allow_pickle=True)",
    ],
)
def test_the_search_for_pickle_finds_it(source):
    assert unsafe(source)


def test_the_search_for_imports_knows_what_loading_a_module_runs():
    source = (
        "import a\nfrom b import c as d\nif TYPE_CHECKING:\n    import e\nelse:\n    import f\n"
        "try:\n    import g\nexcept ImportError:\n    pass\ndef h():\n    import i\n"
        "class J:\n    import k\nfrom . import l\nfrom ..m import n\n"
    )
    found = {each.target: each.at_load for each in imports(source, "top.package.module")}
    assert found == {
        "a": True,
        "b.c": True,
        "e": False,
        "f": True,
        "g": True,
        "i": False,
        "k": True,
        "top.package.l": True,
        "top.m.n": True,
    }


def test_a_heavy_import_is_found_through_other_modules_and_named_with_its_chain(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").write_text("")
    (tmp_path / "p" / "a.py").write_text("from p.b import thing\n")
    (tmp_path / "p" / "b.py").write_text("from p import c\n")
    (tmp_path / "p" / "c.py").write_text("import torch.nn\ndef f():\n    import scipy\n")
    chains = reached(["p.a"], modules(tmp_path, "p"))
    assert chains["torch"][:1] == ("p.a",)
    assert "p.c" in chains["torch"]
    assert "scipy" not in chains


@pytest.mark.parametrize(
    ("package", "target", "refused"),
    [
        ("ops", "layers.form", True),
        ("ops", "errors", False),
        ("ops", "ops.select", False),
        ("cascade", "stages.base.Stage", False),
        ("cascade", "stages.dare.DARECompressor", True),
        ("models", "stages.base", True),
        ("stages", "cascade.records", True),
        ("reporting", "cascade.pipeline", True),
        ("jobs", "cli", True),
        ("run", "jobs.compress", False),
        ("cli", "models.transformers.clip", True),
    ],
)
def test_the_arrows_themselves_refuse_what_they_should(package, target, refused):
    assert forbidden(package, target) is refused
