"""How many observations share a job.

Starting Python takes seconds, and each observation has three jobs or more: with many observations
that outweighs what they compute. With few of them each stage of each observation is a job of its
own, which Snakemake can name, repeat and run at the same time as the others.

A size is chosen once for a workflow (its jobs in a cluster read it from the environment), and a
later workflow keeps that of the batches that are there, so that a cost that is measured anew
reruns nothing.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pflow.config.experiment import ExperimentSettings
from pflow.pipeline.runtime import measured_seconds, operator_calls
from pflow.storage.layout import ExperimentFolder

__all__ = [
    "expected_seconds",
    "forget_inherited_sizes",
    "has_batches",
    "keep_sizes",
    "observations_per_job",
]

VARIABLE = "PFLOW_OBSERVATIONS_PER_JOB"
FEW = 20  # observations without batches
JOBS = 8  # batches at least, so that all cores have something to do
MOST = 200
SECONDS = 600.0  # of a batch
# Seconds without those of F, measured on one core: those of a stage, and those of fine-tuning for
# each evaluation.
OWN = {"observe": 0.05, "reference": 0.1, "finetune": 0.1, "sample": 0.2, "evaluate": 0.2}
OWN_OF_AN_EVALUATION = 0.005


def has_batches(e: ExperimentSettings) -> bool:
    """Whether the observations of an experiment share jobs.

    Arguments:
        e: the experiment.
    """
    wanted, count = e.resources.observations_per_job, len(e.observations)
    return count > FEW if wanted is None else wanted > 1 and count > 1


def observations_per_job(
    e: ExperimentSettings,
    folder: ExperimentFolder,
    stages: Sequence[str],
    batches: Path,
    count: int,
    method: str = "",
) -> int:
    """The size of a batch.

    Arguments:
        e: the experiment.
        folder: its results.
        stages: of each observation.
        batches: folder of the files that say what batches have made.
        count: observations.
        method: of the runs; empty for other stages.
    """
    if e.resources.observations_per_job is not None:
        return e.resources.observations_per_job
    key, chosen = str(batches), json.loads(os.environ.get(VARIABLE, "{}"))
    if key in chosen:
        return chosen[key]
    if earlier := _size_of_earlier_batches(batches):
        return earlier
    seconds = sum(expected_seconds(e, folder, stage, method) for stage in stages)
    return max(1, min(math.ceil(count / JOBS), MOST, int(SECONDS / seconds)))


def expected_seconds(
    e: ExperimentSettings, folder: ExperimentFolder, stage: str, method: str
) -> float:
    """Seconds of one stage of one observation; without those of F where its cost is not known."""
    evaluations, forwards = operator_calls(e, stage, method)
    measured = measured_seconds(folder.operator, evaluations, forwards)
    tuning = OWN_OF_AN_EVALUATION * evaluations if stage == "finetune" else 0.0
    return OWN[stage] + tuning + (measured or 0.0)


@cache
def forget_inherited_sizes() -> None:
    """Called whenever a Snakefile is read, and forgets once: sizes that an earlier workflow has
    chosen are chosen anew. One that uses pflow as a module reads it for each `use rule`.
    """
    os.environ.pop(VARIABLE, None)


def keep_sizes(sizes: dict[str, int]) -> None:
    """Let this process, and all that it starts, take these sizes too, by the batches' folder."""
    os.environ[VARIABLE] = json.dumps(json.loads(os.environ.get(VARIABLE, "{}")) | sizes)


def _size_of_earlier_batches(folder: Path) -> int | None:
    """That of the first batch that is there."""
    numbers = {file: re.findall(r"\d+", file.stem) for file in folder.glob("*.json")}
    for file in sorted(numbers, key=lambda file: [int(number) for number in numbers[file]]):
        try:
            size = json.loads(file.read_text(encoding="utf-8"))["observations_per_job"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(size, int) and size > 0:
            return size
    return None
