"""One stage, run from its command line: reads settings and inputs, holds the job's lock, and does
the work unless another job has done it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pflow.config.decoding import decode
from pflow.config.jobs import with_workers
from pflow.errors import PflowError
from pflow.execution.finished import keep_finished, made, restore_finished
from pflow.execution.job import job
from pflow.execution.origin import has_origin, input_states, record_origin
from pflow.pipeline.inputs import data_files
from pflow.pipeline.long_arguments import expanded, settings_text
from pflow.pipeline.stage import Stage
from pflow.provenance.planned import load_planned_code
from pflow.provenance.record import identity, provenance
from pflow.storage.layout import CheckpointFolder, root_file
from pflow.storage.origins import InputState, file_hash

__all__ = ["StageRun", "process_count", "run_stage", "stage_run"]


@dataclasses.dataclass(frozen=True)
class StageRun:
    """One run of a stage, whose settings and inputs have been read.

    Attributes:
        stage: its declaration.
        options: its command line.
        identity: fingerprint of settings, code and inputs.
        work: makes the results.
        origin: what it reads, for the record beside the results.
    """

    stage: Stage
    options: argparse.Namespace
    identity: str
    work: Callable[[], None]
    origin: tuple[str, str, str, dict[str, InputState]]

    @property
    def outputs(self) -> list[Path]:
        """The results, the main one first."""
        return self.stage.outputs(self.options.out)

    def is_made(self) -> bool:
        """Whether the results are there, and were made by these settings, code and inputs."""
        return has_origin(*self.origin, self.outputs)

    def run(self) -> None:
        """Do the work under the job's lock, unless its result exists by then, and record its
        origin.
        """
        options, wanted = self.options, self.identity
        checkpoint = getattr(options, "checkpoint", None)
        with job(options.out, checkpoint, wanted, options.attempt) as lock:
            if checkpoint and restore_finished(options.out, checkpoint, wanted):
                _say("made by an earlier job, whose end was not seen: nothing to do")
            elif lock.waited and made(options.out, wanted):
                _say("made by the other job meanwhile: nothing to do")
            else:
                self.work()
                if checkpoint:
                    keep_finished(options.out, checkpoint)
            record_origin(*self.origin, self.outputs)


def run_stage(stage: Stage, options: argparse.Namespace) -> None:
    """Run a stage on the files that the command line names; `stage_run` has the arguments and the
    errors.
    """
    if (prepared := stage_run(stage, options)) is not None:
        prepared.run()


def stage_run(
    stage: Stage, options: argparse.Namespace, loaded: set[str] | None = None
) -> StageRun | None:
    """The run of a stage on the files that the command line names; None in one of several processes
    that share the work, which has done its part.

    Arguments:
        stage: its declaration.
        options: the command line as read, with its words as `arguments`.
        loaded: the code that earlier jobs of this process have loaded, for jobs of one plan.

    Raises:
        PflowError: a setting or an input is invalid, or the code was changed after the job was
            planned.
    """
    text = settings_text(options.settings)
    load_planned_code(stage.name, text, loaded)
    for argument in stage.arguments:
        if argument.kind == "inputs":
            given = getattr(options, argument.parameter)
            setattr(options, argument.parameter, expanded(given, f"--{argument.name}"))
    settings = _with_execution(decode(stage.settings, json.loads(text), ""), options)
    inputs = _inputs(stage, options)
    hashes = {one.name: file_hash(one.path) for one in inputs if one.path.is_file()}
    record = provenance(stage.name, text, hashes)
    paths = {
        argument.parameter: getattr(options, argument.parameter) for argument in stage.arguments
    }
    work = functools.partial(_function(stage), settings, record, **paths, threads=options.threads)
    if process_count(options) > 1:
        from pflow.execution.parallel import is_worker

        if is_worker():
            work()
            return None
        work = functools.partial(_share, options)
    read = input_states(
        stage.outputs(options.out)[0],
        [one.path for one in inputs if one.decides],
        data_files(settings),
    )
    origin = (stage.name, text, record["code_fingerprint"], read)
    return StageRun(stage, options, identity(record), work, origin)


def process_count(options: argparse.Namespace) -> int:
    """How many processes share the work of a stage."""
    return getattr(options, "devices", 1) * getattr(options, "nodes", 1)


def _function(stage: Stage) -> Callable[..., None]:
    """The function of a stage, imported now: settings, provenance and paths in, files out."""
    return getattr(importlib.import_module(f"pflow.stages.{stage.name}"), stage.name)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _share(options: argparse.Namespace) -> None:
    """The same command in several processes."""
    from pflow.execution.parallel import run_workers

    message = CheckpointFolder(options.checkpoint.parent).message
    run_workers(options.arguments, options.devices, options.nodes, options.threads, message)


def _with_execution(settings: Any, options: argparse.Namespace) -> Any:
    """The settings with the number of workers, which is not part of their text."""
    workers = getattr(options, "workers", 1)
    if workers == 1:
        return settings
    return dataclasses.replace(settings, problem=with_workers(settings.problem, workers))


class Input(NamedTuple):
    """A file or folder that the command line names; a store is its root file."""

    name: str
    path: Path
    decides: bool


def _inputs(stage: Stage, options: argparse.Namespace) -> list[Input]:
    """The inputs on the command line.

    Raises:
        PflowError: one is not there.
    """
    inputs = []
    for argument in stage.arguments:
        value = getattr(options, argument.parameter)
        many = argument.kind == "inputs"
        if argument.kind == "output" or value is None:
            continue
        for i, path in enumerate(value if many else [value]):
            if not path.exists():
                raise PflowError(
                    f"--{argument.name} (={path}) must exist: run the stage that makes it, or"
                    " `snakemake`"
                )
            name = f"{argument.name}-{i}" if many else argument.name
            root = root_file(path)
            inputs.append(Input(name, root if root.is_file() else path, argument.decides))
    return inputs
