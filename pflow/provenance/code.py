"""Fingerprint of the code that a stage can reach inside pflow, so that an edit reruns what it can
change.

The import closure of `pflow.stages.<stage>` is followed through the syntax trees (nothing is
imported), and hashed without comments and docstrings: rewording a comment reruns nothing, reverting
an edit reruns nothing either. What was found in a file is kept in `__pycache__` under the hash of
its bytes, because parsing takes longer than the rest of a plan.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "closure_fingerprint",
    "code_fingerprint",
    "import_closure",
    "module_path",
    "normalised_code",
    "pflow_content",
]

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES = 1000


def code_fingerprint(stage: str) -> str:
    """Hash of every module of pflow that stage `stage` can import, comments and docstrings left
    out.
    """
    return closure_fingerprint(f"pflow.stages.{stage}")


def closure_fingerprint(entry: str) -> str:
    """The same for the module `entry`."""
    return pflow_content({entry})[:16]


def pflow_content(entries: Iterable[str]) -> str:
    """Hash of every module of pflow that one of the modules `entries` can import, themselves
    included.
    """
    digest, before = hashlib.sha256(), len(_known())
    for module in sorted(import_closure(*entries)):
        digest.update(f"{module}\0{_facts(module_path(module)).content}\0".encode())
    if len(_known()) > before:
        _write(_known())
    return digest.hexdigest()


def import_closure(*entries: str) -> set[str]:
    """Modules of pflow reachable from `entries` by import statements anywhere in the source,
    packages' `__init__` included.
    """
    seen: set[str] = set()
    waiting = list(entries)
    while waiting:
        module = waiting.pop()
        if module in seen or module_path(module) is None:
            continue
        seen.add(module)
        waiting += _facts(module_path(module)).imports
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return seen


def module_path(module: str) -> Path | None:
    """The file of a module of pflow; None for a name that is not a module."""
    base = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class Facts(NamedTuple):
    """What the fingerprint needs of one file."""

    imports: list[str]
    content: str


@cache
def _facts(path: Path) -> Facts:
    source = path.read_bytes()
    key = hashlib.sha256(source).hexdigest()
    known = _known()
    if key not in known:
        tree = ast.parse(source, filename=str(path))
        imports = _imports(tree)
        known[key] = Facts(imports, hashlib.sha256(normalised_code(tree).encode()).hexdigest())
    return Facts(*known[key])


def _imports(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "pflow"]
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and (node.module or "").split(".")[0] == "pflow"
        ):
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def normalised_code(tree: ast.Module) -> str:
    """What a syntax tree does, as text: without comments, and without docstrings and the version
    number, which it removes from `tree`.
    """
    tree.body = [statement for statement in tree.body if not _is_version(statement)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def _is_version(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__"


def _cache_file() -> Path:
    return ROOT / "__pycache__" / f"fingerprint.{sys.implementation.cache_tag}.json"


@lru_cache(maxsize=1)
def _known() -> dict[str, Any]:
    try:
        return json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(known: dict[str, Any]) -> None:
    """Best effort: without the file, the next plan takes half a second longer."""
    temporary = _cache_file().with_suffix(f".{os.getpid()}")
    try:
        temporary.parent.mkdir(exist_ok=True)
        newest = dict(list(known.items())[-MOST_FILES:])
        temporary.write_text(json.dumps(newest), encoding="utf-8")
        os.replace(temporary, _cache_file())
    except OSError:
        temporary.unlink(missing_ok=True)
