"""The command line of a job, as its rule in `workflow/rules` writes it, for a run in this
process.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pflow.pipeline.planned_jobs import PlannedJob
from pflow.pipeline.stage import Argument
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline

__all__ = ["job_options"]

# Arguments whose input has another name in the plan.
INPUTS = {
    "train-shards": "train",
    "validation-shards": "validation",
    "test-shards": "test",
    "pretrained": "start",
    "reuse": "reused",
}


def job_options(pipeline: Pipeline, job: PlannedJob, threads: int = 1) -> argparse.Namespace:
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


def _output(pipeline: Pipeline, job: PlannedJob, argument: Argument) -> Path:
    result, names = Path(job.result), vars(job.wildcards)
    if argument.name == "out":
        return result.parent if job.stage in ("pretrain", "finetune", "figures") else result
    folder = pipeline.layout.experiment(names["experiment"])
    if argument.name == "points":
        return folder.kept_points(names["observation"])
    if job.stage == "pretrain":
        return folder.pretraining_checkpoint(names["flow"]).state
    return folder.run_checkpoint(names["observation"], names["method"], names["seed"]).state
