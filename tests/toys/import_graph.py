"""The project's modules and what each imports, read from the source without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import: the full dotted target, where it stands, and whether loading the module runs it."""

    target: str
    line: int
    at_load: bool


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Every module below the packages (folders of `root`) by its dotted name; a package by its own name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, module: str = "", is_package: bool = False) -> list[Import]:
    """The imports of a module's source; relative ones are resolved from `module`'s name."""
    return list(_imports(ast.parse(source), module, is_package, at_load=True))


def imports_of(name: str, path: Path) -> list[Import]:
    return imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")


def reached(names: Iterable[str], known: dict[str, Path]) -> dict[str, tuple[str, ...]]:
    """Everything that loading `names` loads: each dotted target with the chain of modules that leads there."""
    chains: dict[str, tuple[str, ...]] = {}
    ahead = [(name, (name,)) for name in names]
    while ahead:
        name, chain = ahead.pop()
        if name in chains:
            continue
        chains[name] = chain
        parts = name.split(".")
        ahead += [(".".join(parts[:end]), (*chain, ".".join(parts[:end]))) for end in range(1, len(parts))]
        if name in known:
            loaded = [found.target for found in imports_of(name, known[name]) if found.at_load]
            ahead += [(target, (*chain, target)) for target in loaded]
    return chains


def _imports(node: ast.AST, module: str, is_package: bool, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _base(child, module, is_package)
            yield from (Import(f"{base}.{alias.name}", child.lineno, at_load) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _imports(ast.Module([inner], []), module, is_package, at_load=False)
            for inner in child.orelse:
                yield from _imports(ast.Module([inner], []), module, is_package, at_load)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports(child, module, is_package, at_load and not inside)


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The module that `from … import` names, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)
