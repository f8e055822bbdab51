"""The modules of pflow, read without importing them.

The definitions of a file are cached in `__pycache__` under the hash of its bytes, because parsing
takes longer than the rest of planning. A damaged cache is written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pflow.errors import PflowError
from pflow.provenance import definitions, uses
from pflow.provenance.definitions import Definition, Module, read_module

__all__ = ["forget_modules", "keep_what_was_read", "module", "module_path"]

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES = 1000
NEW: list[str] = []  # keys of entries that are not yet on disk


@cache
def module_path(name: str) -> Path | None:
    """The file of a module of pflow; None for a name that is not a module."""
    base = ROOT.joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] == "pflow" and candidate.is_file():
            return candidate
    return None


@cache
def module(name: str) -> Module:
    """What the module `name` defines.

    Raises:
        PflowError: it is not valid Python.
    """
    path = module_path(name)
    assert path is not None, f"{name} is a module of pflow"
    source = path.read_bytes()
    key = hashlib.sha256(_reader() + source).hexdigest()
    if key in _known():
        return _decoded(_known()[key])
    try:
        _known()[key] = read_module(source)
    except SyntaxError as error:
        raise PflowError(f"{path}, line {error.lineno}: {error.msg}: correct this file") from error
    NEW.append(key)
    return _known()[key]


def forget_modules() -> None:
    """Clear the cache of files."""
    for function in (module, module_path, _known):
        function.cache_clear()


def keep_what_was_read() -> None:
    """Write new entries to disk. On an error the next plan takes half a second longer."""
    if not NEW:
        return
    NEW.clear()
    temporary = _cache_file().with_suffix(f".{os.getpid()}")
    content = json.dumps(dict(list(_known().items())[-MOST_FILES:])).encode()
    try:
        temporary.parent.mkdir(exist_ok=True)
        temporary.write_bytes(_checksum(content) + b"\n" + content)
        os.replace(temporary, _cache_file())
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def _decoded(kept: Any) -> Module:
    definitions, *rest = kept
    return Module({name: Definition(*parts) for name, parts in definitions.items()}, *rest)


@cache
def _reader() -> bytes:
    """The key of the cache: entries are valid while the modules that compute them are unchanged."""
    files = (Path(str(reader.__file__)) for reader in (definitions, uses))
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)


def _cache_file() -> Path:
    return ROOT / "__pycache__" / f"fingerprint.{sys.implementation.cache_tag}.json"


@cache
def _known() -> dict[str, Any]:
    try:
        checksum, _, content = _cache_file().read_bytes().partition(b"\n")
    except OSError:
        return {}
    return json.loads(content) if checksum == _checksum(content) else {}


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
