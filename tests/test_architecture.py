"""Who may import whom: DESIGN section 3, held by reading the source of every module (nothing is imported here).

A room is a package or a module directly under pflow/. A new one needs a row in ROOMS: the moment to decide what it may know.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

PFLOW = Path(__file__).parent.parent / "pflow"
MODULES = sorted(PFLOW.rglob("*.py"))

# Room (a pattern) -> the rooms that it may import besides itself and `errors`.
ROOMS = {
    "__init__": "",
    "errors": "",
    # the mathematics
    "operators": "",
    "problems": "operators data_files",
    "flows": "",
    "evaluations": "",
    "target": "problems evaluations",
    "objectives": "flows target problems",
    "training": "flows objectives store checkpoint progress interruption parallel",
    "parallel": "",
    "diagnostics": "",
    "figures": "",
    # files
    "replacing": "",
    "store": "replacing",
    "checkpoint": "store",
    "arviz_schema": "",
    "pairs": "store",
    "own_pairs": "config* data_files",
    "posterior": "store",
    "laplace": "target",
    "nuts": "target laplace",
    "report*": "figures report*",
    # settings
    "decoding": "",
    "config*": "decoding config* outside_code data_files fingerprint",
    "outside_code": "fingerprint",
    "data_files": "",
    "stage_settings": "config* decoding",
    "schema*": "config* decoding schema*",
    "fingerprint": "",
    "provenance": "fingerprint stage_settings",
    "status": "config* workflow",
    "job_resources": "config* runtime",
    "workflow": "config* data_files decoding fingerprint stage_settings job_resources",
    # small helpers
    "device": "",
    "failures": "",
    "finished": "provenance replacing",
    "lock": "",
    "job": "lock",
    "interruption": "",
    "progress": "",
    "runtime": "config*",
    "seeds": "",
    # the way in
    "stages": "*",
    "project": "workflow",
    "cli": "stages project status config* decoding stage_settings interruption job parallel progress",
    "__main__": "cli",
}

# Room -> the libraries that it may import at module level; a heavy one that only one function needs is imported there.
LIBRARIES = {
    "operators": "torch jaxtyping",
    "problems": "torch jaxtyping numpy",
    "flows": "torch jaxtyping",
    "diagnostics": "numpy scipy xarray",
    "figures": "numpy xarray matplotlib",
}

# `pflow --help`, the Snakefile and a dry run import these, and must not wait for the heavy libraries.
LIGHT = ("__init__", "__main__", "cli", "config*", "decoding", "failures", "data_files", "finished", "fingerprint", "job", "job_resources", "outside_code", "project", "runtime", "schema*", "stage_settings", "status", "workflow")
HEAVY = {"torch", "matplotlib", "xarray", "zarr", "scipy", "jaxtyping"}


class Import(NamedTuple):
    module: str
    at_start: bool  # whether it runs when the module is imported


def room(module: str) -> str:
    """pflow.flows.base -> flows; pflow itself -> __init__."""
    return (module.split(".") + ["__init__"])[1]


def module_name(path: Path) -> str:
    parts = ("pflow", *path.relative_to(PFLOW).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions and for type checkers included."""

    def visit(node: ast.AST, at_start: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full, from pflow..."
            yield Import(node.module, at_start)
            if node.module.split(".")[0] == "pflow":  # The names may be modules.
                yield from (Import(f"{node.module}.{alias.name}", at_start) for alias in node.names)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_start and not function and not for_types)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split())


def path_of(module: str) -> Path | None:
    """The file of one of our modules; None for a name that is not a module."""
    stem = PFLOW.joinpath(*module.split(".")[1:])
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_rooms_import_what_they_may(path):
    name = room(module_name(path))
    rows = [allowed for pattern, allowed in ROOMS.items() if fnmatch(name, pattern)]
    assert rows, f"the room `{name}` needs a row in ROOMS of {__file__}, with the rooms that it may import"
    for module, _ in imports(path):
        if module.split(".")[0] == "pflow" and path_of(module) is not None and module != "pflow":
            other = room(module)
            assert other in (name, "errors") or matches(other, rows[0]), f"`{name}` must not import `{other}`: {module} in {path}"


@pytest.mark.parametrize("path", [path for path in MODULES if room(module_name(path)) in LIBRARIES], ids=module_name)
def test_rooms_use_the_libraries_they_may(path):
    name = room(module_name(path))
    for module, at_start in imports(path):
        library = module.split(".")[0]
        if at_start and library not in sys.stdlib_module_names and library != "pflow":
            assert matches(library, LIBRARIES[name]), f"`{name}` must not import {library} at module level: {path}"


@pytest.mark.parametrize("path", [path for path in MODULES if matches(room(module_name(path)), " ".join(LIGHT))], ids=module_name)
def test_light_modules_start_without_heavy_libraries(path):
    """Followed through our own modules, and the packages that they lie in."""
    seen: set[Path] = set()
    waiting = [(path, (module_name(path),))]
    while waiting:
        path, chain = waiting.pop()
        seen.add(path)
        for module, at_start in imports(path):
            if not at_start:
                continue
            assert module.split(".")[0] not in HEAVY, f"importing {' -> '.join(chain)} imports {module}"
            parents = module.split(".")
            for depth in range(1, len(parents) + 1):
                parent = ".".join(parents[:depth])
                ours = path_of(parent) if parents[0] == "pflow" else None
                if ours is not None and ours not in seen:
                    waiting.append((ours, (*chain, parent)))


def test_every_row_is_a_room():
    """A row without a room is a rule that holds nothing."""
    rooms = {room(module_name(path)) for path in MODULES}
    assert [pattern for pattern in ROOMS if not any(fnmatch(name, pattern) for name in rooms)] == []
