"""Checks before Snakemake plans, whose errors are messages of one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from pflow.config.experiment import ExperimentSettings
from pflow.errors import PflowError

__all__ = ["check_data_paths", "check_writable", "check_yaml"]

ROOM = 10 * 2**20  # bytes


def check_yaml(path: str | Path) -> None:
    """Report where a configuration file is not valid YAML; Snakemake does not name the place.

    Raises:
        PflowError: the file is missing or not YAML, a key stands twice in a mapping, or an anchor
            holds itself.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check_nodes(path, yaml.compose(text, Loader=yaml.SafeLoader), (), set())
        yaml.safe_load(text)
    except OSError as error:
        raise PflowError(
            f"{path} cannot be read ({error.strerror}): run snakemake in the folder of the"
            " Snakefile"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PflowError(
            f"{path}{place}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from error


def _check_nodes(
    path: str | Path, node: yaml.Node | None, above: tuple[int, ...], seen: set[int]
) -> None:
    """Walk a node, the ids of the nodes above it being given; a shared node is looked at once."""
    if node is not None and id(node) in above:
        raise PflowError(
            f"{path}, line {node.start_mark.line + 1}: an anchor holds itself: remove the alias"
        )
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    children = node.value
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise PflowError(
                    f"{path}, line {line}: the key `{key.value}` stands here again, after line"
                    f" {lines[key.value]}: remove one of them"
                )
            lines[str(key.value)] = line
        children = [value for _, value in node.value]
    for child in children:
        _check_nodes(path, child, (*above, id(node)), seen)


def check_writable(results: Path) -> None:
    """Whether results can be written.

    Raises:
        PflowError: no permission, or a full disk.
    """
    folder = results
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PflowError(
            f"`results` (={results}) must be a folder that can be written, and {folder} cannot:"
            " choose another `results` or change its permissions"
        )
    if shutil.disk_usage(folder).free < ROOM:
        raise PflowError(
            f"`results` (={results}) must have room, and its disk has less than 10 MB left: free"
            " some space or choose another `results`"
        )


def check_data_paths(name: str, experiment: ExperimentSettings) -> None:
    """Whether Snakemake takes the paths of an experiment's data as they are.

    Raises:
        PflowError: a path has braces, which Snakemake reads as a wildcard.
    """
    where, problem = f"experiments.{name}", experiment.problem
    paths: dict[str, object] = {
        f"{where}.observations.{key}.file": observation.file
        for key, observation in experiment.observations.items()
    }
    paths[f"{where}.problem.images"] = getattr(problem, "images", None)
    paths[f"{where}.pairs.file"] = experiment.pairs and experiment.pairs.file
    high = experiment.high_fidelity_pairs
    paths[f"{where}.high_fidelity_pairs.file"] = high and high.file
    for key, path in paths.items():
        if path and set("{}") & set(str(path)):
            raise PflowError(
                f"`{key}` (={path}) must have no braces, which are Snakemake's wildcards: rename"
                " the file or its folder"
            )
