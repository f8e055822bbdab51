"""What is done, running and missing, and the newest metrics of each run, from the files alone.

A result is done when its file exists. Snakemake marks the outputs of jobs that have begun
(`.snakemake/incomplete`) and locks the folder while it runs: a marked output is running if the
folder is locked, and was interrupted if not.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pflow.pipeline.checks import check_yaml
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline
from pflow.storage.layout import RunFolder, root_file
from pflow.storage.origins import file_hash, read_origin

__all__ = ["status"]

SHOWN = ("kl_reverse_nats", "ess_fraction", "elbo_nats", "evaluations", "wall_seconds")
LONGEST = 100
MANY, FEW = 50, 20  # of more finished runs than that, so many are shown


class Begun(NamedTuple):
    """Outputs of jobs that have begun and not ended, and whether Snakemake is running."""

    outputs: frozenset[str]
    at_work: bool


def status(folder: Path) -> str:
    """A readable table about the project in `folder`, the one with config.yaml, or about a
    configuration file run in this folder.

    Raises:
        PflowError: there is no valid configuration.
    """
    configuration, folder = (
        (folder, Path()) if folder.is_file() else (folder / "config.yaml", folder)
    )
    check_yaml(configuration)
    settings = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    with contextlib.chdir(folder):  # where its paths start
        pipeline = Pipeline(settings, folder, planned=True)
    begun = _in_batches(pipeline, folder, _begun(folder / ".snakemake"))
    lines = []
    for name in pipeline.configuration.experiments:
        lines += [
            name,
            *(f"  {line}" for line in _stages(pipeline, folder, name, begun)),
            *(f"  {line}" for line in _runs(pipeline, folder, name, begun)),
        ]
    lines.append(f"report  {_report_state(pipeline, folder)}")
    if begun.outputs and not begun.at_work:
        lines.append("Some jobs were interrupted: `snakemake` continues them.")
    return "\n".join(lines)


def _report_state(pipeline: Pipeline, folder: Path) -> str:
    """Whether the page shows the metrics that are there now; else how many it does not."""
    report = folder / pipeline.layout.report
    partial = folder / pipeline.layout.partial_report
    if partial.is_file():  # the next run that succeeds removes it
        before = "old" if report.is_file() else "missing"
        return f"{before}: a run has failed since; of what is complete: {partial}, {_age(partial)}"
    if not report.is_file():
        return "missing"
    metrics = [
        Path(file)
        for name in pipeline.configuration.experiments
        for file in pipeline.files(name).runs(lambda run: run.metrics)
    ]
    origin = read_origin(report)
    shown = {} if origin is None else origin.inputs
    keys = {file: file.relative_to(pipeline.layout.results).as_posix() for file in metrics}
    other = sum(
        keys[file] not in shown or shown[keys[file]].hash != _content(folder / file)
        for file in metrics
    )
    if other:
        return f"old: {other} of {len(metrics)} runs are missing or have changed since"
    return f"done, {_age(report)}"


def _content(metrics: Path) -> str:
    return file_hash(metrics) if metrics.is_file() else ""


def _stages(pipeline: Pipeline, folder: Path, experiment: str, begun: Begun) -> list[str]:
    lines = []
    for stage in STAGES.values():
        if stage.files is None:
            continue
        files = pipeline.stage_files(stage.name, experiment)
        states = [_state(folder, file, begun) for file in files]
        counts = {
            state: states.count(state) for state in ("done", "running", "interrupted", "missing")
        }
        lines.append(
            f"{stage.name:<15} "
            + (
                ", ".join(f"{count} {state}" for state, count in counts.items() if count)
                or "nothing to do"
            )
        )
    return lines


def _runs(pipeline: Pipeline, folder: Path, experiment: str, begun: Begun) -> list[str]:
    """Newest first: numbers of finished runs, the last line of the log of running ones."""
    done, other = [], []
    files = pipeline.files(experiment)
    for names in files.run_names():
        run = files.folder.run(*names)
        name, metrics = run.folder.relative_to(files.folder.posteriors), folder / run.metrics
        if metrics.is_file():
            done.append((metrics.stat().st_mtime, f"{name!s:<40} {_numbers(metrics)}"))
        elif (stage := _stage_of(run, begun)) is not None:
            last = _last_line(folder / files.folder.run_log(stage, *names))
            state = "running" if begun.at_work else "interrupted in"
            other.append(f"{name!s:<40} {state} {stage}  {last}".rstrip())
    newest = [line for _, line in sorted(done, key=lambda entry: -entry[0])]
    if len(newest) > MANY:
        newest[FEW:] = [f"... and {len(newest) - FEW} more that are done"]
    return newest + other


def _state(folder: Path, file: str, begun: Begun) -> str:
    if file in begun.outputs:
        return "running" if begun.at_work else "interrupted"
    return "done" if (folder / file).is_file() else "missing"


def _numbers(path: Path) -> str:
    try:
        metrics: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(metrics, dict):
            raise ValueError("no names with values")
    except (OSError, ValueError):
        return "metrics.json is damaged: delete it and run snakemake again"
    numbers = [
        f"{name} {metrics[name]:.4g}"
        for name in SHOWN
        if isinstance(metrics.get(name), (int, float))
    ]
    return ", ".join([metrics.get("verdict", "no verdict"), *numbers, _age(path)])


def _stage_of(run: RunFolder, begun: Begun) -> str | None:
    """The stage that a run is in, the last first."""
    outputs = {
        "evaluate": run.metrics,
        "sample": root_file(run.posterior),
        "finetune": run.weights,
    }
    return next((stage for stage, output in outputs.items() if str(output) in begun.outputs), None)


def _last_line(log: Path) -> str:
    """The last line of a stage's log, whose first line is its command."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1][:LONGEST] if len(lines) > 1 else ""


def _begun(folder: Path) -> Begun:
    """The markers carry the output's name in base64, long names in pieces that are folders."""
    outputs = set()
    root = folder / "incomplete"
    for marker in root.rglob("*") if root.is_dir() else ():
        if marker.is_file():
            text = "".join(part.removeprefix("@") for part in marker.relative_to(root).parts)
            try:
                outputs.add(base64.urlsafe_b64decode(text).decode())
            except (binascii.Error, UnicodeDecodeError):
                continue
    locks = folder / "locks"
    return Begun(frozenset(outputs), locks.is_dir() and any(locks.iterdir()))


def _in_batches(pipeline: Pipeline, folder: Path, begun: Begun) -> Begun:
    """The results that batches of observations are making in place of the batches: of each the
    first that is missing.
    """
    outputs = set(begun.outputs)
    for file in begun.outputs & pipeline.batches.keys():
        results = (job.result for job in pipeline.jobs_of_batches[file])
        outputs.update(islice((one for one in results if not (folder / one).is_file()), 1))
    return begun._replace(outputs=frozenset(outputs))


def _age(path: Path) -> str:
    seconds = max(0.0, time.time() - path.stat().st_mtime)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
