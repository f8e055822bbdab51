"""Who may import whom: rooms on floors; and how long modules and functions may be. Held by reading
the source of every module (nothing is imported here).

A room is a package or a module directly under pflow/. Data goes down the floors: a room imports
rooms of lower floors only, never its own floor or a higher one. A new room needs a row in FLOORS:
the moment to decide what it may know.
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

# Floor -> its rooms and, for each, the rooms of lower floors that it may import besides `errors`.
FLOORS: dict[int, dict[str, str]] = {
    0: {"__init__": "", "errors": ""},
    1: {"diagnostics": "", "figures": "", "settings": ""},
    2: {"operators": "", "flows": "settings", "storage": "", "provenance": "settings"},
    3: {
        "report": "figures storage",
        "problems": "operators storage settings",
        "config": "provenance storage settings",
        "execution": "provenance storage",
        "plotting": "diagnostics figures settings storage",
    },
    4: {
        "inference": "problems storage execution",
        "data": "config storage",
        "pipeline": "config provenance storage execution",
    },
    5: {"objectives": "flows operators problems inference"},
    6: {"training": "flows objectives storage execution"},
    7: {
        "finetuning": "config flows inference objectives training problems execution diagnostics"
        " provenance storage"
    },
    8: {"stages": "*"},
    9: {
        "posterior": "diagnostics storage",
        "serving": "config flows inference problems stages storage",
    },
    10: {"cli": "stages pipeline config plotting serving provenance execution"},
    11: {
        "__main__": "cli execution",
        "notebook": "stages pipeline config provenance execution flows operators plotting problems"
        " storage posterior",
    },
}
ROOMS = {name: allowed for rooms in FLOORS.values() for name, allowed in rooms.items()}
FLOOR = {name: floor for floor, rooms in FLOORS.items() for name in rooms}

# What lies directly in pflow/, beside the packages.
AT_THE_ROOT = {"__init__", "__main__", "cli", "errors", "posterior", "training"}

# Room -> the libraries that it may import at module level; a heavy one that only one function needs
# is imported there.
LIBRARIES = {
    "operators": "torch jaxtyping",
    "problems": "torch jaxtyping numpy",
    "flows": "torch jaxtyping",
    "diagnostics": "numpy scipy xarray",
    "figures": "numpy xarray matplotlib",
}

LONGEST_MODULE, LONGEST_FUNCTION = 300, 60  # lines; of a function without its docstring
SIZED = [*MODULES, *sorted((PFLOW.parent / "benchmarks").glob("*.py"))]

# `pflow --help`, the Snakefile and a dry run import these, and must not wait for heavy libraries.
LIGHT = (
    "__init__ __main__ cli config settings pipeline provenance storage.atomic storage.formats"
    " storage.layout storage.origins execution.origin"
    " execution.job execution.lock"
    " execution.interruption execution.finished"
)
HEAVY = {"torch", "matplotlib", "xarray", "zarr", "scipy", "jaxtyping"}


class Import(NamedTuple):
    module: str
    at_start: bool  # whether it runs when the module is imported


def room(module: str) -> str:
    """pflow.flows.base -> flows; pflow itself -> __init__."""
    return ([*module.split("."), "__init__"])[1]


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


def is_light(module: str) -> bool:
    return matches(room(module), LIGHT) or matches(module.removeprefix("pflow."), LIGHT)


def path_of(module: str) -> Path | None:
    """The file of one of our modules; None for a name that is not a module."""
    stem = PFLOW.joinpath(*module.split(".")[1:])
    return next(
        (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None
    )


def rooms_imported(path: Path) -> set[str]:
    """The rooms of pflow that a module imports, besides its own and `errors`."""
    found = {
        room(module)
        for module, _ in imports(path)
        if module.split(".")[0] == "pflow" and module != "pflow" and path_of(module) is not None
    }
    return found - {room(module_name(path)), "errors"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_rooms_import_what_they_may(path):
    name = room(module_name(path))
    assert name in FLOOR, f"the room `{name}` needs a row in FLOORS of {__file__}"
    for other in rooms_imported(path):
        assert FLOOR[other] < FLOOR[name], f"{path} imports upwards: `{name}` imports `{other}`"
        assert matches(other, ROOMS[name]), f"`{name}` must not import `{other}`: {path}"


def test_modules_have_no_import_cycle():
    """Within a room too: modules can be read from the bottom up."""
    graph = {
        module_name(path): {
            module for module, _ in imports(path) if path_of(module) and module != module_name(path)
        }
        for path in MODULES
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, chain: tuple[str, ...]) -> None:
        assert module not in chain, f"import cycle: {' -> '.join((*chain, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*chain, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_root_holds_the_public_modules_alone():
    assert {path.stem for path in PFLOW.glob("*.py")} <= AT_THE_ROOT


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room(module_name(path)) in LIBRARIES], ids=module_name
)
def test_rooms_use_the_libraries_they_may(path):
    name = room(module_name(path))
    for module, at_start in imports(path):
        library = module.split(".")[0]
        if at_start and library not in sys.stdlib_module_names and library != "pflow":
            assert matches(library, LIBRARIES[name]), (
                f"`{name}` must not import {library} at module level: {path}"
            )


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if is_light(module_name(path))],
    ids=module_name,
)
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
            assert module.split(".")[0] not in HEAVY, (
                f"importing {' -> '.join(chain)} imports {module}"
            )
            parents = module.split(".")
            for depth in range(1, len(parents) + 1):
                parent = ".".join(parents[:depth])
                ours = path_of(parent) if parents[0] == "pflow" else None
                if ours is not None and ours not in seen:
                    waiting.append((ours, (*chain, parent)))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring left out."""
    body = function.body[ast.get_docstring(function) is not None :]
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_modules_and_functions_are_short():
    too_long = []
    for path in SIZED:
        source = path.read_text(encoding="utf-8")
        lines, name = len(source.splitlines()), path.relative_to(PFLOW.parent)
        if lines > LONGEST_MODULE:
            too_long.append(f"{name} has {lines} lines, at most {LONGEST_MODULE}: split it")
        too_long += [
            f"{name}: `{node.name}` has {length(node)} lines, at most {LONGEST_FUNCTION}: split it"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and length(node) > LONGEST_FUNCTION
        ]
    assert not too_long, "\n".join(too_long)


def test_every_row_is_a_room():
    """A row without a room is a rule that holds nothing."""
    assert set(FLOOR) == {room(module_name(path)) for path in MODULES}
