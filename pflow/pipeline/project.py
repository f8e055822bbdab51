"""A user's project in any folder: files to start from, and the pipeline run in that folder.

Snakefile, rules and profiles come with pflow: inside the installed package, or beside it in a
clone. Results, logs and Snakemake's records lie in the folder where the command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from pflow.config.results_folder import results_folder
from pflow.errors import PflowError
from pflow.execution.controlled import run_controlled
from pflow.pipeline.checks import check_yaml
from pflow.storage.layout import Layout

__all__ = ["new", "results_of", "run"]

PACKAGE = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).resolve().parent / "templates"


def new(name: str, folder: Path) -> list[Path]:
    """Write NAME.py, NAME.yaml and test_NAME.py into `folder`; none of them may exist.

    Raises:
        PflowError: a name that cannot be a Python module, or a file that would be overwritten.
    """
    if not name.isidentifier() or not name.isascii() or name.startswith("_"):
        raise PflowError(
            f"the name (={name!r}) becomes a Python file and a class: use letters, digits and _,"
            " such as my_problem"
        )
    if name in sys.stdlib_module_names or name in ("pflow", "torch", "numpy"):
        raise PflowError(
            f"the name (={name!r}) is that of a Python module: choose another, such as my_{name}"
        )
    files = {
        f"{name}.py": "problem.py.txt",
        f"{name}.yaml": "experiment.yaml.txt",
        f"test_{name}.py": "test.py.txt",
    }
    taken = [file for file in files if (folder / file).exists()]
    if taken:
        raise PflowError(
            f"{', '.join(taken)} in {folder.resolve()} would be overwritten: choose another name or"
            " folder"
        )
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    for file, template in files.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        (folder / file).write_text(
            text.replace("MyProblem", class_name).replace("my_problem", name), encoding="utf-8"
        )
    return [folder / file for file in files]


def run(configuration: Path, arguments: Sequence[str]) -> int:
    """Run the pipeline in this folder with one configuration file, and nothing else; further
    arguments are Snakemake's.

    Raises:
        PflowError: the file is not there or not YAML, or pflow is installed without its rules.
    """
    _require(configuration)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--configfile",
        str(configuration),
        "--config",
        "alone=true",
        "--snakefile",  # takes one value: after the others, a target would be read as one of theirs
        str(_snakefile()),
        *arguments,
    ]
    return run_controlled(command)


def results_of(configuration: Path) -> Layout:
    """The folder of results that a configuration names, whatever else stands in it.

    Raises:
        PflowError: the file is not there or not YAML, or names no folder.
    """
    _require(configuration)
    settings = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    named = settings.get("results") if isinstance(settings, dict) else None
    return Layout(Path(results_folder(str(named or "results"))))


def _require(configuration: Path) -> None:
    if not configuration.is_file():
        raise PflowError(
            f"{configuration} is not there: {configuration.absolute()}: name your configuration"
            " (`python -m pflow new my_problem` writes one)"
        )
    check_yaml(configuration)


def _snakefile() -> Path:
    """The Snakefile of an installed package, or that of a clone."""
    places = [PACKAGE / "snakemake", PACKAGE.parent]
    for folder in places:
        if (folder / "Snakefile").is_file():
            return folder / "Snakefile"
    raise PflowError(
        f"running the pipeline needs its Snakefile, and neither {places[0]} nor {places[1]} has"
        " one: install pflow again"
    )
