"""Which results are out of date: what made them, as they say themselves, against what is wanted.

A result is out of date if its job had other settings, code or inputs, or if one of the files that
it wrote was deleted or changed. A result that is not there is left to Snakemake, which makes it
where it is asked for. A result without an origin was made by an earlier version of pflow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

from pflow.pipeline.batches import read_batch
from pflow.pipeline.file_states import FileStates
from pflow.pipeline.inputs import ONLY_THERE
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.settings_difference import settings_difference
from pflow.pipeline.workflow import Pipeline
from pflow.storage.layout import whole
from pflow.storage.origins import FileState, Origin, job_fingerprint, read_origin

__all__ = ["Comparison", "compare"]

# Of these a job is given the folder, and may record more than it reads.
OF_A_FOLDER = ("figures", "report")
UNTIMED = ("data", *ONLY_THERE)  # inputs whose time does not count
SHOWN = 8  # reasons that a summary names


@dataclass(frozen=True)
class Comparison:
    """Results that are there, by main result.

    Attributes:
        reasons: why a result is out of date.
        right: results that are as wanted.
        unrecorded: results that do not say what made them.
        unfinished: batches that are there, and of which a result is missing or not right.
        finished: batches all of whose results are right.
    """

    reasons: dict[str, str] = field(default_factory=dict)
    right: set[str] = field(default_factory=set)
    unrecorded: set[str] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)

    def summary(self) -> str:
        """A line for each reason, and one for results that do not say what made them; empty where
        there is nothing to say.
        """
        results: dict[str, list[str]] = {}
        for result, reason in self.reasons.items():
            results.setdefault(reason, []).append(str(whole(Path(result))))
        lines = [
            f"out of date: {reason}: {files[0]}"
            + (f" and {len(files) - 1} more" if len(files) > 1 else "")
            for reason, files in results.items()
        ]
        more = len(lines) - SHOWN
        lines[SHOWN:] = [f"out of date: for {more} more reasons"] if more > 0 else []
        if self.unrecorded:
            lines.append(
                f"{len(self.unrecorded)} results of an earlier version of pflow do not say what"
                " made them: Snakemake's records decide, and what is not in these is made again"
            )
        return "\n".join(lines)


def compare(pipeline: Pipeline) -> Comparison:
    """Compare every result of a configuration with what is wanted."""
    return _Comparing(pipeline).result()


class _Comparing:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.states = FileStates(pipeline.layout.results)
        self.jobs = {job.result: job for job in planned_jobs(pipeline)}
        self.there = [job for job in self.jobs.values() if os.path.isfile(job.result)]
        origins = ((job.result, read_origin(Path(job.result))) for job in self.there)
        self.origins = {result: origin for result, origin in origins if origin is not None}
        self.inputs = {
            result: pipeline.inputs_of(self.jobs[result].stage, self.jobs[result].wildcards)
            for result in self.origins
        }

    def result(self) -> Comparison:
        comparison = Comparison()
        for job in self.there:
            if job.result not in self.origins:
                comparison.unrecorded.add(job.result)
            elif reason := next(self._reasons(job, self.origins[job.result]), None):
                comparison.reasons[job.result] = reason
            else:
                comparison.right.add(job.result)
        for file in filter(os.path.isfile, self.pipeline.batches):
            whole_batch = self._is_finished(file, comparison.right)
            (comparison.finished if whole_batch else comparison.unfinished).add(file)
        self._order_times(comparison)
        self.states.save()
        return comparison

    def _is_finished(self, file: str, right: set[str]) -> bool:
        """Whether a batch says that it has made what it is to make, and that is right."""
        batch, jobs = self.pipeline.batches[file], self.pipeline.jobs_of_batches[file]
        said = read_batch(file)
        return (
            bool(said)
            and said["observations_per_job"] == batch.size
            and set(said["observations"]) == set(batch.observations)
            and all(job.result in right for job in jobs)
        )

    def _reasons(self, job: PlannedJob, origin: Origin) -> Iterator[str]:
        settings, code = self._wanted(job)
        if origin.settings != settings:
            yield f"settings differ: {settings_difference(origin.settings, settings)}"
        if origin.code != code:
            yield "the code of its stage differs"
        yield from self._changed_outputs(job, origin)
        yield from self._changed_inputs(job, origin)

    def _changed_outputs(self, job: PlannedJob, origin: Origin) -> Iterator[str]:
        for path, written in _outputs(job.result, origin):
            state = self.states.state(path, written)
            if state is None:
                yield f"{path} was deleted, or cannot be read"
            elif state.hash != written.hash:
                yield f"{path} was changed after it was written"

    def _changed_inputs(self, job: PlannedJob, origin: Origin) -> Iterator[str]:
        folder, wanted = _folder(job.result), set()
        for name, files in self.inputs[job.result].items():
            if name in ONLY_THERE:
                continue
            for path in files:
                key = path if name == "data" else os.path.relpath(path, folder)
                wanted.add(key)
                if key not in origin.inputs and self._could_not_be_made(path):
                    continue
                if key not in origin.inputs:
                    yield f"it was made without {path}"
                elif self._content(path) not in (None, origin.inputs[key].hash):
                    yield f"{path} has changed"
                elif self._other_job(path, origin.inputs[key].made_by):
                    yield f"{path}, which is deleted, was made by other settings or code"
        if job.stage not in OF_A_FOLDER:
            yield from (f"it was made with {key}" for key in origin.inputs if key not in wanted)

    def _could_not_be_made(self, path: str) -> bool:
        """Whether an input is missing because its batch has failed to make it; its neighbours went
        on without it.
        """
        return path in self.pipeline.in_batches and not os.path.isfile(path)

    def _content(self, path: str) -> str | None:
        """The hash of an input; a result is as its origin says, or is itself out of date."""
        if path in self._written:
            return self._written[path].hash
        state = self._state(path)
        return None if state is None else state.hash

    @cached_property
    def _written(self) -> Mapping[str, FileState]:
        """All outputs with an origin."""
        return {
            path: state
            for result, origin in self.origins.items()
            for path, state in _outputs(result, origin)
        }

    def _other_job(self, path: str, made_by: str) -> bool:
        """Whether a deleted input was made by another job than the one that would make it now."""
        if not made_by or path not in self.jobs or os.path.isfile(path):
            return False
        job = self.jobs[path]
        return job_fingerprint(job.stage, *self._wanted(job)) != made_by

    def _order_times(self, comparison: Comparison) -> None:
        """No right result is older than its inputs, as in a copy that lost its times: Snakemake
        would make it again. It knows batches in place of the results in them.
        """
        in_batches = self.pipeline.in_batches
        right = (comparison.right - in_batches.keys()) | comparison.finished
        inputs = {result: self._results_read(result) for result in right}
        for result in TopologicalSorter(inputs).static_order():
            if result in right:
                times = [state.mtime_ns for state in map(self._state, inputs[result]) if state]
                for path in self._with_benchmark(result) if times else ():
                    self.states.set_earliest(path, max(times))

    def _with_benchmark(self, result: str) -> list[str]:
        if result in self.pipeline.batches:
            return [result]
        outputs = [path for path, _ in _outputs(result, self.origins[result])]
        return [*outputs, self.jobs[result].benchmark]

    def _results_read(self, result: str) -> list[str]:
        """The inputs whose time counts."""
        of_batch = result in self.pipeline.batches
        inputs = self.pipeline.batch_inputs(result) if of_batch else self.inputs[result]
        read = (path for name in inputs.keys() - set(UNTIMED) for path in inputs[name])
        return self.pipeline.tracked(read)

    def _state(self, path: str) -> FileState | None:
        return self.states.state(path, self._written.get(path))

    def _wanted(self, job: PlannedJob) -> tuple[str, str]:
        """Settings and code."""
        return (
            self.pipeline.text(job.stage, job.wildcards),
            self.pipeline.code(job.stage)(job.wildcards).removeprefix("code-"),
        )


def _outputs(result: str, origin: Origin) -> Iterator[tuple[str, FileState]]:
    folder = _folder(result)
    return ((f"{folder}/{name}", state) for name, state in origin.outputs.items())


def _folder(result: str) -> str:
    return str(whole(Path(result)).parent)
