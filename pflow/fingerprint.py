"""Fingerprint of the code that a stage can reach inside pflow, so that an edit reruns what it can change.

The import closure of `pflow.stages.<stage>` is followed through the syntax trees (nothing is imported), and hashed
without comments and docstrings: rewording a comment reruns nothing, reverting an edit reruns nothing either.
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["closure_fingerprint", "code_fingerprint", "import_closure"]

ROOT = Path(__file__).resolve().parent


def code_fingerprint(stage: str) -> str:
    """Hash of every module of pflow that stage `stage` can import, comments and docstrings left out."""
    return closure_fingerprint(f"pflow.stages.{stage}")


def closure_fingerprint(entry: str) -> str:
    """The same for the module `entry`."""
    digest = hashlib.sha256()
    for module in sorted(import_closure(entry)):
        digest.update(module.encode() + b"\0" + _normalised(_path(module)).encode() + b"\0")
    return digest.hexdigest()[:16]


def import_closure(entry: str) -> set[str]:
    """Modules of pflow reachable from `entry` by import statements anywhere in the source, packages' `__init__` included."""
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        if module in seen or _path(module) is None:
            continue
        seen.add(module)
        waiting += _imports(_path(module))
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return seen


def _path(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@lru_cache(maxsize=None)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@lru_cache(maxsize=None)
def _imports(path: Path) -> tuple[str, ...]:
    found = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "pflow"]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "pflow":
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


@lru_cache(maxsize=None)
def _normalised(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:]
    return ast.dump(tree)
