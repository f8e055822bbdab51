"""One stage, run from its command line: reads settings and inputs, holds the job's lock, and does
the work unless another job has done it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pflow.config.decoding import decode
from pflow.config.jobs import with_workers
from pflow.errors import PflowError
from pflow.execution.finished import keep_finished, made, restore_finished
from pflow.execution.job import job
from pflow.pipeline.long_arguments import expanded, settings_text
from pflow.pipeline.stage import Stage
from pflow.provenance.planned import load_planned_code
from pflow.provenance.record import identity, provenance
from pflow.storage.layout import CheckpointFolder

__all__ = ["process_count", "run_stage"]


def run_stage(
    stage: Stage, load: Callable[[], Callable[..., None]], options: argparse.Namespace
) -> None:
    """Run a stage on the files that the command line names.

    Arguments:
        stage: its declaration.
        load: imports the function of the stage: settings, provenance and paths in, files out.
        options: the command line as read, with its words as `arguments`.

    Raises:
        PflowError: a setting or an input is invalid, or the code was changed after the job was
            planned.
    """
    text = settings_text(options.settings)
    load_planned_code(stage.name, text)
    for argument in stage.arguments:
        if argument.kind == "inputs":
            given = getattr(options, argument.parameter)
            setattr(options, argument.parameter, expanded(given, f"--{argument.name}"))
    settings = _with_execution(decode(stage.settings, json.loads(text), ""), options)
    record = provenance(stage.name, text, _inputs(stage, options))
    paths = {
        argument.parameter: getattr(options, argument.parameter) for argument in stage.arguments
    }
    work = functools.partial(load(), settings, record, **paths, threads=options.threads)
    if process_count(options) > 1:
        from pflow.execution.parallel import is_worker

        if is_worker():
            return work()
        work = functools.partial(_share, options)
    _hold(options, identity(record), work)


def process_count(options: argparse.Namespace) -> int:
    """How many processes share the work of a stage."""
    return getattr(options, "devices", 1) * getattr(options, "nodes", 1)


def _hold(options: argparse.Namespace, wanted: str, work: Callable[[], None]) -> None:
    """Do the work under the job's lock, unless its result exists by then."""
    checkpoint = getattr(options, "checkpoint", None)
    with job(options.out, checkpoint, wanted, options.attempt) as lock:
        if checkpoint and restore_finished(options.out, checkpoint, wanted):
            print("made by an earlier job, whose end was not seen: nothing to do", file=sys.stderr)
        elif lock.waited and made(options.out, wanted):
            print("made by the other job meanwhile: nothing to do", file=sys.stderr)
        else:
            work()
            if checkpoint:
                keep_finished(options.out, checkpoint)


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


def _inputs(stage: Stage, options: argparse.Namespace) -> dict[str, Path]:
    """The input files by name, for the provenance; folders have no hash.

    Raises:
        PflowError: one is not there.
    """
    inputs = {}
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
            if path.is_file():
                inputs[f"{argument.name}-{i}" if many else argument.name] = path
    return inputs
