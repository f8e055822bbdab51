"""A problem from a user's file: import the file, call the class with its settings, check the
result.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pflow.errors import PflowError
from pflow.problems.base import Problem

__all__ = ["load_problem"]


def load_problem(path: Path, name: str, settings: Mapping[str, Any]) -> Problem:
    """The problem that `name(**settings)` of the file `path` is.

    Raises:
        PflowError: the file cannot be imported, its class refuses the settings, or what it returns
            is no problem.
    """
    definition = getattr(_import(path), name, None)
    if definition is None:
        raise PflowError(
            f"`problem.name` (={name!r}) must be a class or a function of {path}, and is not there"
            " once it is imported"
        )
    try:
        problem = definition(**settings)
    except PflowError:
        raise
    except Exception as error:  # the user's code may raise anything
        arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        raise PflowError(
            f"{name}({arguments}) of {path} failed{_place(error, path)}: {type(error).__name__}:"
            f" {error}"
        ) from error
    if not isinstance(problem, Problem):
        raise PflowError(
            f"`{name}` of {path} must be a subclass of pflow.problems.Problem or return one, and"
            f" gives a {type(problem).__name__}"
        )
    if not hasattr(problem, "name"):
        problem.name = name
    return problem


def _import(path: Path) -> ModuleType:
    """The file as a module under its own name, so that worker processes find it; modules beside it
    can be imported, as from a script.
    """
    folder, name = str(path.resolve().parent), path.stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    imported = sys.modules.get(name)
    if imported is not None:
        if Path(getattr(imported, "__file__", None) or "").resolve() != path.resolve():
            raise PflowError(
                f"{path} has the name of the module `{name}`, which is in use: rename the file"
            )
        return imported
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "the path of a module ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, PflowError) or not isinstance(error, Exception):
            raise
        raise PflowError(
            f"{path} cannot be imported{_place(error, path)}: {type(error).__name__}: {error}"
        ) from error
    return module


def _place(error: Exception, path: Path) -> str:
    """The last line of the user's folder that the error passed."""
    folder = path.resolve().parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(folder)
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
