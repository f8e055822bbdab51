"""The declaration of a stage of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pflow.pipeline.files import ExperimentFiles
from pflow.storage.results import one_file

__all__ = ["Argument", "Kind", "Option", "Stage"]

Kind = Literal["input", "optional input", "inputs", "output"]
Option = Literal["workers", "devices"]


@dataclass(frozen=True)
class Argument:
    """A path on the command line of a stage.

    Arguments:
        name: the option without its dashes.
        kind: `inputs` are one or more; an `optional input` may be absent.
        help: one line.
        decides: whether the result is made again when this input changes.
    """

    name: str
    kind: Kind
    help: str
    decides: bool = True

    @property
    def parameter(self) -> str:
        """The parameter of the stage's function."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Arguments:
        name: its subcommand, and its module in `pflow.stages`.
        help: its result, in one line.
        settings: class of a job's settings.
        build: those settings, from (experiment, its name, wildcards of the rule); from the whole
            configuration where the stage is not of one experiment.
        arguments: paths.
        files: all its results in one experiment; None where it is not of one experiment.
        product: whether the results are for users: a missing one is made again. Others are made
            again when a job needs them.
        option: option of the execution besides threads: `workers` evaluate the operator, `devices`
            (on `nodes`) share a training.
        outputs: the result files of a job, the main one first, from the path `out`.
    """

    name: str
    help: str
    settings: type
    build: Callable[..., Any]
    arguments: tuple[Argument, ...]
    files: Callable[[ExperimentFiles], list[str]] | None
    product: bool = True
    option: Option | None = None
    outputs: Callable[[Path], list[Path]] = one_file
