"""Fingerprint of the code that can change the result of a job, so that an edit reruns only the jobs
that it can change.

From the function of a stage, the names that it uses are followed from definition to definition
through the syntax trees of pflow (nothing is imported). Counted are the functions, classes and
constants that are reached, and the statements that run when their modules are imported. Not
counted:

- comments, docstrings, annotations of functions, and where in pflow a definition lies;
- fields of settings classes: the settings text of a job carries their names and values. Defaults
  count where code builds a settings object itself;
- settings classes, and problems, that the settings of the job do not choose;
- how the settings of problems are read from their signatures: here too, the settings text carries
  names and values;
- `pflow.provenance`: it describes results and does not change them.

A module that is used as a whole (`getattr`, `importlib`) counts as a whole, and the files beside a
module with a definition that uses `__file__`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from pflow.provenance.definitions import STATEMENTS, Definition
from pflow.provenance.modules import forget_modules, keep_what_was_read, module, module_path

__all__ = [
    "code_fingerprint",
    "entry_fingerprint",
    "entry_of",
    "forget_code",
    "pflow_content",
    "reached",
    "words_for",
]

UNTRACKED = "pflow.provenance"
REGISTRY = ("pflow.problems", "BUILT_IN")  # of which a job uses the problem of its settings alone
# Settings classes that are made from signatures, and what these classes have in common.
FROM_SIGNATURES = ("pflow.config.problems", "_BUILT_IN")
IN_COMMON = "BuiltInProblemSettings"
# Definitions that a job reaches only if its settings hold this word.
CHOSEN = {
    ("pflow.finetuning.automatic", "_choose"): "auto",
    ("pflow.stages.io.umbridge", "UMBridgeProblem"): "umbridge",
    ("pflow.problems.session", "session_problem"): "session",
}


class Node(NamedTuple):
    """A definition of a module; `built`: whether code may build instances, if it is a class."""

    module: str
    name: str
    built: bool = True


def code_fingerprint(stage: str, settings: str = "") -> str:
    """Hash of the code that can change the result of a job.

    Arguments:
        stage: name of the stage.
        settings: the job's settings text, JSON; without it the job may choose anything.
    """
    return entry_fingerprint(entry_of(stage), settings=settings)


def entry_of(stage: str) -> str:
    """The entry points of a stage's code."""
    return f"pflow.stages.{stage}:{stage}"


def entry_fingerprint(*entries: str, settings: str = "") -> str:
    """The same for definitions, such as `pflow.inference.target:Target`."""
    fingerprint = _fingerprint(entries, words_for(entries, settings))
    keep_what_was_read()
    return fingerprint


def words_for(entries: tuple[str, ...], settings: str) -> frozenset[str] | None:
    """The words of a settings text that choose among the definitions that `entries` can reach; None
    without a text.
    """
    return frozenset(_words(json.loads(settings))) & _choices(entries) if settings else None


def pflow_content(entries: Iterable[str]) -> str:
    """Hash of all code that modules and definitions of pflow (`pflow.problems.base.Problem`) can
    reach.
    """
    return entry_fingerprint(*sorted(entries))


def forget_code() -> None:
    """Clear the cache of files."""
    forget_modules()
    for function in (_targets, _followed, _choices, _fingerprint):
        function.cache_clear()


def reached(entries: Iterable[str], chosen: frozenset[str] | None = None) -> set[Node]:
    """The definitions that can be reached from `entries`.

    Arguments:
        entries: `module:definition`, or dotted names of modules and definitions.
        chosen: words of the settings; None if they are unknown.
    """
    seen: set[Node] = set()
    waiting = [node for entry in entries for node in _start(entry)]
    while waiting:
        node = waiting.pop()
        if node not in seen and _counts(node, chosen):
            seen.add(node)
            waiting += [
                target
                for _, targets in _followed(node)
                for target in targets
                if (node.module, node.name) != REGISTRY or _in_use(target, chosen)
            ]
    return seen


@cache
def _fingerprint(entries: tuple[str, ...], chosen: frozenset[str] | None) -> str:
    nodes = reached(entries, chosen)
    lines = {line for node in nodes for line in _content(node, nodes)}
    return hashlib.sha256("\0".join(sorted(lines)).encode()).hexdigest()[:16]


def _content(node: Node, counted: set[Node]) -> Iterator[str]:
    """The content of a definition, and the definitions that its names refer to."""
    definition = _definition(node)
    if not _does(node):
        return
    names = sorted(
        f"{name}={_does(target)}"
        for name, targets in _followed(node)
        for target in targets
        if target in counted and name
    )
    yield " ".join((_does(node), definition.fields if node.built else "", *names))
    if definition.files:
        path = module_path(node.module)
        assert path is not None
        folder = path.parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.suffix != ".py" and not file.name.startswith("."):
                yield f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _does(node: Node) -> str:
    return (
        "" if (node.module, node.name) in (REGISTRY, FROM_SIGNATURES) else _definition(node).content
    )


def _counts(node: Node, chosen: frozenset[str] | None) -> bool:
    if chosen is None:
        return True
    tag = "" if node.built else _definition(node).tag
    word = CHOSEN.get((node.module, node.name), tag)
    return not word or word in chosen


def _in_use(node: Node, chosen: frozenset[str] | None) -> bool:
    label = _definition(node).label
    return chosen is None or not label or label in chosen


@cache
def _choices(entries: tuple[str, ...]) -> frozenset[str]:
    """The words by which settings choose among the definitions that `entries` can reach."""
    parts = {_definition(node)[-2:] for node in reached(entries)}
    return frozenset({word for words in parts for word in words} | set(CHOSEN.values())) - {""}


def _words(settings: Any) -> Iterator[str]:
    """All keys and texts of settings."""
    if isinstance(settings, dict):
        yield from settings
        settings = list(settings.values())
    if isinstance(settings, list):
        for item in settings:
            yield from _words(item)
    elif isinstance(settings, str):
        yield settings


def _start(entry: str) -> Iterator[Node]:
    """The definition, and the settings that it takes: decoding reads the types of their fields."""
    nodes = _targets("", entry.replace(":", "."), True)
    yield from nodes
    for node in nodes if ":" in entry else ():
        for taken in _definition(node).signature:
            yield from _targets(node.module, taken, False)


@cache
def _followed(node: Node) -> list[tuple[str, tuple[Node, ...]]]:
    """The definitions that the names in a definition refer to; under "" the statements of modules
    that are imported with it.
    """
    definition = _definition(node)
    if (node.module, node.name) == FROM_SIGNATURES:
        return [(IN_COMMON, _targets(node.module, IN_COMMON, False))]
    if node.name == STATEMENTS:
        imported = {*module(node.module).imported, node.module.rpartition(".")[0]}
        statements = [Node(name, STATEMENTS) for name in imported if _is_followed(name)]
    else:
        statements = [Node(node.module, STATEMENTS)]
    found = [("", tuple(statements))]
    values = {*definition.values, *(definition.defaults if node.built else ())}
    found += [(name, _targets(node.module, name, True)) for name in values]
    found += [(name, _targets(node.module, name, False)) for name in definition.types]
    found += [(name, _targets("", name, True)) for name in definition.modules if module_path(name)]
    return found


@cache
def _targets(inside: str, name: str, built: bool) -> tuple[Node, ...]:
    """The definitions that a dotted name in a module stands for; none for one of Python's, or of
    another library.

    Arguments:
        inside: the module; "" for a name in full, from pflow.
        name: such as `build_flow` or `laplace.mode`.
        built: whether code may build instances, where it stands for a class.
    """
    head, _, rest = name.partition(".")
    if inside and head != "pflow":
        scope = module(inside)
        if head in scope.definitions:
            return (Node(inside, head, built),)
        if head in scope.imports:
            full = scope.imports[head]
            return _targets("", f"{full}.{rest}" if rest else full, built)
        if module_path(f"{inside}.{head}"):
            return _targets("", f"{inside}.{name}", built)
        return tuple(n for star in scope.stars for n in _targets("", f"{star}.{name}", built))
    parts = name.split(".")
    depth = next((d for d in range(len(parts), 0, -1) if module_path(".".join(parts[:d]))), 0)
    owner, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
    if head != "pflow" or not _is_followed(owner):
        return ()
    found = _targets(owner, rest, built) if rest else ()
    return found or tuple(Node(owner, name, built) for name in module(owner).definitions)


def _is_followed(module: str) -> bool:
    return module_path(module) is not None and not f"{module}.".startswith(f"{UNTRACKED}.")


def _definition(node: Node) -> Definition:
    return module(node.module).definitions[node.name]
