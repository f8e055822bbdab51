"""Runs jobs of the pipeline in this process, in the order of the data: those whose results are
missing or out of date, each as its rule runs it, under its lock and with its origin record.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import torch

from pflow.execution.interruption import Interrupted
from pflow.pipeline.job_options import job_options
from pflow.pipeline.out_of_date import compare
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.run_stage import run_stage
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline
from pflow.storage.origins import file_hash

__all__ = ["run_jobs"]


def run_jobs(
    pipeline: Pipeline,
    wanted: Iterable[PlannedJob],
    threads: int = 1,
    given: Collection[str] = (),
) -> list[str]:
    """Make the results of the wanted jobs; returns the results that were made now. Results `given`
    are taken as they are.

    Raises:
        PflowError: a job cannot be done.
        KeyboardInterrupt: the process was asked to stop; what was made stays.
    """
    running, before = _Running(pipeline, threads, given), torch.get_num_threads()
    try:
        for job in wanted:
            running.require(job)
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None
    finally:
        torch.set_num_threads(before)
    return running.made


class _Running:
    """One pass over the jobs."""

    def __init__(self, pipeline: Pipeline, threads: int, given: Collection[str]) -> None:
        self.pipeline, self.threads = pipeline, threads
        self.done = set(given)
        self.jobs = {job.result: job for job in planned_jobs(pipeline)}
        self.reasons = compare(pipeline).reasons
        self.made: list[str] = []
        self._changed: set[str] = set()

    def require(self, job: PlannedJob) -> None:
        """Make a result, unless it is there and as wanted. As in Snakemake, pairs and observations
        that were deleted are made again only where a job needs them.
        """
        if job.result in self.done:
            return
        self.done.add(job.result)
        inputs = self._inputs(job)
        for path in inputs:
            if path in self.jobs and (Path(path).is_file() or self._is_product(path)):
                self.require(self.jobs[path])
        there = Path(job.result).is_file()
        if there and job.result not in self.reasons and not self._changed & set(inputs):
            return
        for path in inputs:
            if path in self.jobs:
                self.require(self.jobs[path])
        self._run(job)

    def _is_product(self, path: str) -> bool:
        return STAGES[self.jobs[path].stage].product

    def _inputs(self, job: PlannedJob) -> list[str]:
        """Results that a job reads; checks come first, before anything expensive."""
        inputs = self.pipeline.inputs_of(job.stage, job.wildcards)
        names = sorted(inputs, key=lambda name: name != "checked")
        return [path for name in names if name != "data" for path in inputs[name]]

    def _run(self, job: PlannedJob) -> None:
        names = " ".join(str(value) for key, value in job.wildcards.items() if key != "experiment")
        reason = self.reasons.get(job.result)
        _say(f"{job.stage} {names}".rstrip() + (f" ({reason})" if reason else ""))
        options, began = job_options(self.pipeline, job, self.threads), time.monotonic()
        before = _hash(job.result)
        self.pipeline.code(job.stage)(job.wildcards)  # the code that the job has to have
        run_stage(STAGES[job.stage], options)
        self.made.append(job.result)
        if _hash(job.result) != before:
            self._changed.add(job.result)
        _say(f"{job.stage} {names}".rstrip() + f": {time.monotonic() - began:.1f} s")


def _hash(result: str) -> str:
    return file_hash(result) if Path(result).is_file() else ""


def _say(line: str) -> None:
    print(f"pflow: {line}", file=sys.stderr, flush=True)
