"""What a user hands to `pflow.infer` as the problem: an object, a name with settings, a file."""

from __future__ import annotations

import ast
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pflow.config.decoding import decode, encode
from pflow.config.jobs import CheckOperatorJobSettings
from pflow.config.user_problems import UserProblemSettings
from pflow.errors import PflowError
from pflow.problems.base import Problem
from pflow.problems.session import remember_problem
from pflow.provenance.live_objects import live_fingerprint
from pflow.provenance.user_code import parse
from pflow.stages.io.inputs import problem_from

__all__ = ["GivenProblem", "given_problem"]

_FINGERPRINTS: weakref.WeakKeyDictionary[Problem, str] = weakref.WeakKeyDictionary()
_IMPORTED: dict[Path, str] = {}  # user's file -> code at its import


class GivenProblem(NamedTuple):
    """A problem, its entry in a configuration, and the name of its results."""

    problem: Problem
    entry: dict[str, Any]
    name: str


def given_problem(given: Any) -> GivenProblem:
    """The problem that a user means.

    Arguments:
        given: a `Problem`; the name of a problem that comes with pflow, or the path of a Python
            file with a problem's class ("file.py", or "file.py:Class" where it has several); or a
            mapping, as `problem:` in a configuration.

    Raises:
        PflowError: it is none of these, or its settings are invalid.
    """
    if isinstance(given, Problem):
        return _object(given)
    if isinstance(given, type):
        raise PflowError(
            f"`problem` (={given.__name__}) must be an object and is a class: write"
            f" {given.__name__}()"
        )
    if isinstance(given, Path) or (isinstance(given, str) and ".py" in given):
        given = _file(str(given))
    elif isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        raise PflowError(
            f"`problem` (a {type(given).__name__}) must be a problem, such as pflow.problem(...)"
            " makes, the name of one that comes with pflow, the path of a Python file, or a mapping"
            " with the settings of one"
        )
    return _from_settings(dict(given))


def _object(problem: Problem) -> GivenProblem:
    """An object that only this process knows; its fingerprint is taken when it is first seen."""
    name = getattr(problem, "name", type(problem).__name__)
    if problem not in _FINGERPRINTS:
        _FINGERPRINTS[problem] = live_fingerprint(problem)
    key = f"{name}-{_FINGERPRINTS[problem]}"
    remember_problem(key, problem)
    return GivenProblem(problem, {"session": key}, name)


def _file(given: str) -> dict[str, Any]:
    """A file, with the name of its only problem where none is given."""
    path, _, name = given.partition(".py:")
    path = f"{path}.py" if name else path
    if name:
        return {"module": path, "name": name}
    classes = [
        node.name
        for node in parse(Path(path)).body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Problem") for base in node.bases)
    ]
    if len(classes) != 1:
        raise PflowError(
            f"`problem` (={given}) must have one class of a problem, and has"
            f" {', '.join(classes) or 'none'}: name the one that you mean, {given}:MyProblem"
        )
    return {"module": path, "name": classes[0]}


def _from_settings(entry: dict[str, Any]) -> GivenProblem:
    settings = decode(CheckOperatorJobSettings, {"problem": entry}, "").problem
    if isinstance(settings, UserProblemSettings):
        _require_unedited(settings)
    encoded = encode(settings)
    encoded.pop("code", None)  # found anew from the file each time
    name = entry.get("name") or entry.get("model") or "problem"
    return GivenProblem(problem_from(settings), encoded, str(name))


def _require_unedited(settings: UserProblemSettings) -> None:
    """Whether the file is as it was when this process imported it: Python does not import a module
    again.
    """
    path, code = settings.module.resolve(), settings.code.partition("-")[0]
    if _IMPORTED.setdefault(path, code) != code:
        raise PflowError(
            f"{settings.module}, or a file that it uses, was edited after this Python process"
            " imported it: restart Python (the notebook's kernel) and call again; what is complete"
            " stays"
        )
