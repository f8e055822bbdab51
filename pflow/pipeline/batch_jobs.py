"""What the rules of batches ask for: files, settings, code, inputs and time of each batch.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from pflow.config.decoding import encode
from pflow.config.jobs import BatchJobSettings
from pflow.pipeline.batch_sizes import expected_seconds
from pflow.pipeline.batches import Batch, batches_of, made_by_batches
from pflow.pipeline.job_settings import with_one_worker
from pflow.pipeline.job_texts import JobTexts
from pflow.pipeline.long_arguments import settings_argument
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.runtime import MARGIN
from pflow.storage.layout import ExperimentFolder

__all__ = ["BATCH_RULES", "BatchJobs"]


def _observations(folder: ExperimentFolder, wildcards: Any) -> str:
    return str(folder.observation_batch(wildcards.batch))


def _references(folder: ExperimentFolder, wildcards: Any) -> str:
    return str(folder.reference_batch(wildcards.batch))


def _runs(folder: ExperimentFolder, wildcards: Any) -> str:
    return str(folder.run_batch(wildcards.method, wildcards.seed, wildcards.batch))


BATCH_RULES = {"observe_batch": _observations, "reference_batch": _references, "run_batch": _runs}
"""The rules of batches, and the file that the job of one writes."""


class BatchJobs(JobTexts):
    """Batches of observations, beside the jobs of single ones; none in experiments with few
    observations.
    """

    @cached_property
    def batches(self) -> dict[str, Batch]:
        """All batches, by the file that says what they have made."""
        names = self.configuration.experiments
        return {batch.file: batch for name in names for batch in batches_of(self.files(name))}

    @cached_property
    def in_batches(self) -> dict[str, str]:
        """The file of the batch that makes a result, by the result; others are not in it."""
        made: dict[str, str] = {}
        for name in self.configuration.experiments:
            own = (batch for batch in self.batches.values() if batch.experiment == name)
            made |= made_by_batches(self.layout.experiment(name), own)
        return made

    @cached_property
    def jobs_of_batches(self) -> dict[str, list[PlannedJob]]:
        """The jobs of each batch, one observation after the other, by its file."""
        jobs: dict[str, list[PlannedJob]] = {file: [] for file in self.batches}
        for job in planned_jobs(self) if jobs else ():
            if (file := self.in_batches.get(job.result)) is not None:
                jobs[file].append(job)
        return {
            file: self._by_observation(batch, jobs[file]) for file, batch in self.batches.items()
        }

    def _by_observation(self, batch: Batch, jobs: list[PlannedJob]) -> list[PlannedJob]:
        order = {name: k for k, name in enumerate(batch.observations)}
        return sorted(jobs, key=lambda job: order[job.wildcards.observation])

    def tracked(self, files: Iterable[str]) -> list[str]:
        """The files that Snakemake knows in place of results: of those in batches the batches."""
        return list(dict.fromkeys(self.in_batches.get(file, file) for file in files))

    def batch_of(self, rule: str, wildcards: Any) -> Batch:
        """The batch of a job of a rule."""
        return self.batches[
            BATCH_RULES[rule](self.layout.experiment(wildcards.experiment), wildcards)
        ]

    def batch_inputs(self, file: str) -> dict[str, list[str]]:
        """The inputs of all jobs of a batch, but for results of the batch itself."""
        inputs: dict[str, dict[str, None]] = {}
        for job in self.jobs_of_batches[file]:
            for name, paths in self.inputs_of(job.stage, job.wildcards).items():
                others = (path for path in paths if self.in_batches.get(path) != file)
                inputs.setdefault(name, {}).update(dict.fromkeys(others))
        return {name: list(paths) for name, paths in inputs.items()}

    def batch_settings(self, rule: str) -> Callable[[Any], str]:
        """The settings of a batch as its command takes them, as a function of its wildcards."""

        def settings(wildcards: Any) -> str:
            batch = self.batch_of(rule, wildcards)
            e = with_one_worker(self.experiment(batch.experiment))
            own = {name: e.observations[name] for name in batch.observations}
            text = BatchJobSettings(
                batch.experiment,
                self.configuration.results,
                list(batch.stages),
                batch.size,
                dataclasses.replace(e, observations=own),
                batch.method,
                batch.seed,
            )
            return settings_argument(json.dumps(encode(text), sort_keys=True), self.layout.results)

        return settings

    def batch_code(self, rule: str) -> Callable[[Any], str]:
        """Fingerprints of the code of the stages of a batch, as a function of its wildcards."""

        def code(wildcards: Any) -> str:
            jobs = self.jobs_of_batches[self.batch_of(rule, wildcards).file]
            codes = (self.code(job.stage)(job.wildcards) for job in jobs)
            return " ".join(dict.fromkeys(codes))

        return code

    def batch_runtime(self, rule: str) -> Callable[[Any, int], int]:
        """Minutes of a batch: those of one job, or more if its observations are expected to take
        longer; a retry gets more.
        """

        def minutes(wildcards: Any, attempt: int) -> int:
            batch = self.batch_of(rule, wildcards)
            files = self.files(batch.experiment)
            seconds = sum(
                expected_seconds(files.settings, files.folder, stage, batch.method)
                for stage in batch.stages
            )
            expected = math.ceil(MARGIN * len(batch.observations) * seconds / 60)
            return max(files.settings.resources.runtime_minutes, expected) * attempt

        return minutes
