"""A user's Python file, parsed without running it: the settings of its classes, and a fingerprint
of the code it can reach.

Planning must not wait for the user's imports (torch takes seconds), so signatures come from the
syntax tree. Imports of modules beside the file are resolved as Python does when it runs a script in
that folder.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pflow.errors import PflowError
from pflow.provenance.code import pflow_content
from pflow.provenance.definitions import normalised_code
from pflow.provenance.modules import module_path
from pflow.settings.suggestion import did_you_mean

__all__ = [
    "Definition",
    "find_definition",
    "modules_beside",
    "parse",
    "require_definition",
    "user_code_fingerprint",
]


class Definition(NamedTuple):
    """A class or a function, and the file that holds it."""

    node: ast.ClassDef | ast.FunctionDef
    path: Path


def parse(path: Path) -> ast.Module:
    """The syntax tree of a user's file.

    Raises:
        PflowError: it is not there, or it is not Python.
    """
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise PflowError(
            f"{path} cannot be read ({error.strerror}): {path.absolute()} (paths start in the"
            " folder where you run pflow)"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise PflowError(
            f"{path}, line {getattr(error, 'lineno', '?')}: not valid Python:"
            f" {getattr(error, 'msg', error)}"
        ) from error


def find_definition(path: Path, name: str) -> Definition | None:
    """The class or function `name` of a file: defined there, or imported from a module beside it or
    from pflow.
    """
    tree = parse(path)
    for statement in tree.body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) and statement.name == name:
            return Definition(statement, path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = _module(node, path)
                    return find_definition(source, alias.name) if source is not None else None
    return None


def definitions(path: Path) -> list[str]:
    """Names that a configuration may use."""
    return [
        node.name
        for node in parse(path).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]


def require_definition(path: Path, name: str, where: str) -> Definition:
    """`find_definition`, or an error that names the nearest.

    Raises:
        PflowError: the file has no such class or function.
    """
    definition = find_definition(path, name)
    if definition is None:
        names = definitions(path)
        hint = did_you_mean(name, names, f"it has {', '.join(names) or 'none'}")
        raise PflowError(f"`{where}` (={name!r}) must be a class or a function of {path}: {hint}")
    return definition


def user_code_fingerprint(path: Path, files: tuple[Path, ...] = ()) -> str:
    """Two hashes, "USER-PFLOW": of a user's file, the modules beside it and `files`; and of the
    modules of pflow that these reach.

    Comments and docstrings are left out.
    """
    contents: dict[Path, str] = {}
    waiting, pflow_modules = [path], set()
    while waiting:
        module = waiting.pop()
        if module in contents:
            continue
        tree = parse(module)
        waiting += modules_beside(tree, module, path.parent)
        pflow_modules |= set(_pflow_imports(tree))
        contents[module] = normalised_code(tree)  # after the imports: it removes docstrings
    digest = hashlib.sha256()
    for module, content in contents.items():
        name = module.relative_to(path.parent) if module != path else "."
        digest.update(f"{name}\0{content}\0".encode())
    for file in files:
        digest.update(_content(file))
    return f"{digest.hexdigest()[:16]}-{pflow_content(pflow_modules)[:8]}"


def modules_beside(tree: ast.Module, path: Path, folder: Path) -> list[Path]:
    """Files of `folder` that a module imports, the `__init__` of their packages included."""
    files = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, path, folder)
            names = [
                base,
                *(f"{base}.{alias.name}" if base else alias.name for alias in node.names),
            ]
        else:
            continue
        for name in names:
            parts = name.split(".") if name else []
            for depth in range(1, len(parts) + 1):
                file = _file(folder.joinpath(*parts[:depth]))
                if file is None:
                    break
                files.append(file)
    return files


def _absolute(node: ast.ImportFrom, path: Path, folder: Path) -> str:
    """The module of a `from` import, without leading dots."""
    if not node.level:
        return node.module or ""
    package = path.parent
    for _ in range(node.level - 1):
        package = package.parent
    inside = package.relative_to(folder).parts if package.is_relative_to(folder) else ()
    return ".".join([*inside, *([node.module] if node.module else [])])


def _module(node: ast.ImportFrom, path: Path) -> Path | None:
    """The file of a `from` import: beside `path`, or in pflow."""
    module = _absolute(node, path, path.parent)
    if module.split(".")[0] == "pflow":
        return module_path(module)
    return _file(path.parent.joinpath(*module.split("."))) if module else None


def _file(base: Path) -> Path | None:
    return next(
        (
            file
            for file in (base.with_name(f"{base.name}.py"), base / "__init__.py")
            if file.is_file()
        ),
        None,
    )


def _pflow_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pflow")
        elif (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and node.module is not None
            and node.module.split(".")[0] == "pflow"
        ):
            for alias in node.names:
                yield node.module if alias.name == "*" else f"{node.module}.{alias.name}"


def _content(file: Path) -> bytes:
    """Hash of a file, or of all files of a folder (a Zarr store)."""
    digest = hashlib.sha256()
    for part in sorted(p for p in file.rglob("*") if p.is_file()) if file.is_dir() else [file]:
        digest.update(part.relative_to(file).as_posix().encode() if part != file else b"")
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.digest()
