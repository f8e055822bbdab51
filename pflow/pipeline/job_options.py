"""The command line of a job, as its rule in `workflow/rules` writes it, for a run in this
process.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pflow.pipeline.job_texts import JobTexts
from pflow.pipeline.planned_jobs import PlannedJob
from pflow.pipeline.stage import Argument, Stage
from pflow.pipeline.stages import STAGES

__all__ = ["command_words", "job_options"]

# Arguments whose input has another name in the plan.
INPUTS = {
    "train-shards": "train",
    "validation-shards": "validation",
    "test-shards": "test",
    "pretrained": "start",
    "reuse": "reused",
}


def job_options(pipeline: JobTexts, job: PlannedJob, threads: int = 1) -> argparse.Namespace:
    """The options of `python -m pflow STAGE ...` for a job, as `run_stage` takes them."""
    stage = STAGES[job.stage]
    options: dict[str, Any] = {
        "settings": pipeline.settings(job.stage)(job.wildcards),
        "threads": threads,
        "attempt": 1,
        "arguments": [],
    }
    inputs = pipeline.inputs_of(job.stage, job.wildcards)
    if job.stage == "finetune" and not pipeline.wants_cost(job.wildcards):
        inputs["operator"] = []
    for argument in stage.arguments:
        if argument.kind == "output":
            options[argument.parameter] = _output(pipeline, job, argument)
        else:
            files = inputs.get(INPUTS.get(argument.name, argument.parameter), [])
            many = argument.kind == "inputs"
            options[argument.parameter] = (
                [Path(file) for file in files] if many else Path(files[0]) if files else None
            )
    return argparse.Namespace(**options)


def command_words(stage: Stage, options: argparse.Namespace) -> list[str]:
    """The words of that command line, after `python -m pflow`, for a log."""
    words = [stage.name, "--settings", options.settings]
    for argument in stage.arguments:
        value = getattr(options, argument.parameter)
        given = value if isinstance(value, list) else [] if value is None else [value]
        words += [f"--{argument.name}", *map(str, given)] if given else []
    if stage.option == "workers":
        words += ["--workers", str(getattr(options, "workers", 1))]
    return [*words, "--threads", str(options.threads), "--attempt", str(options.attempt)]


def _output(pipeline: JobTexts, job: PlannedJob, argument: Argument) -> Path:
    result, names = Path(job.result), vars(job.wildcards)
    if argument.name == "out":
        return result.parent if job.stage in ("pretrain", "finetune", "figures") else result
    folder = pipeline.layout.experiment(names["experiment"])
    if argument.name == "points":
        return folder.kept_points(names["observation"])
    if job.stage == "pretrain":
        return folder.pretraining_checkpoint(names["flow"]).state
    return folder.run_checkpoint(names["observation"], names["method"], names["seed"]).state
