"""Every job of a configuration, in the order of the data; the rules of the workflow make the same
ones.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from pflow.config.jobs import SPLITS
from pflow.config.runs import seeds_of
from pflow.pipeline.files import ExperimentFiles
from pflow.pipeline.inputs import JobInputs
from pflow.pipeline.job_settings import replicates, shard_count
from pflow.storage.layout import ExperimentFolder, root_file

__all__ = ["PlannedJob", "Wildcards", "planned_jobs"]


class Wildcards(SimpleNamespace):
    """The wildcards of a job, as Snakemake passes them: text, in the order of the result's path."""

    def items(self) -> ItemsView[str, str]:
        """Name and value of each."""
        return vars(self).items()


class PlannedJob(NamedTuple):
    """A job by its main result, as the workflow names it, with Snakemake's measurement of it and
    the log that it has by itself.
    """

    stage: str
    wildcards: Wildcards
    result: str
    benchmark: str
    log: str


def planned_jobs(inputs: JobInputs) -> Iterator[PlannedJob]:
    """All jobs; those whose result nothing needs are among them."""
    for name in inputs.configuration.experiments:
        files = inputs.files(name)
        for stage, result, wildcards in _of_experiment(files):
            benchmark, log = _told_in(files.folder, stage, wildcards)
            yield PlannedJob(
                stage,
                Wildcards(experiment=name, **wildcards),
                str(result),
                str(benchmark),
                str(log),
            )
    layout = inputs.layout
    benchmark, log = layout.benchmark("report"), layout.log("report")
    yield PlannedJob("report", Wildcards(), str(layout.report), str(benchmark), str(log))


def _told_in(folder: ExperimentFolder, stage: str, wildcards: dict[str, str]) -> tuple[Path, Path]:
    """The benchmark and the log of a job."""
    if "seed" in wildcards:
        return folder.run_benchmark(stage, **wildcards), folder.run_log(stage, **wildcards)
    names = list(wildcards.values())
    if stage == "simulate":
        names = ["{split}-{shard}".format(**wildcards)]
    return folder.benchmark(stage, *names), folder.log(stage, *names)


def _of_experiment(files: ExperimentFiles) -> Iterator[tuple[str, Path | str, dict[str, str]]]:
    """(stage, main result, wildcards besides the experiment) of each job."""
    e, folder = files.settings, files.folder
    for split in SPLITS:
        for k in range(shard_count(e, split)):
            shard = root_file(folder.shard(split, k))
            yield "simulate", shard, {"split": split, "shard": str(k)}
    again = {method: replicates(e, method) for method in e.finetune}
    for observation in {**e.observations, **dict.fromkeys(chain(*again.values()))}:
        yield "observe", files.observation(observation), {"observation": observation}
    for result in files.operator():
        yield "check_operator", result, {}
    for result in files.spectra():
        yield "spectrum", result, {}
    for observation in e.observations:
        for result in files.reference(observation):
            yield "reference", result, {"observation": observation}
    for flow in e.flows:
        yield "pretrain", folder.pretrained(flow).weights, {"flow": flow}
        yield "calibrate", folder.pretrained(flow).calibration, {"flow": flow}
    yield from _runs(files, again)
    yield "figures", folder.figure_index, {}


def _runs(
    files: ExperimentFiles, again: dict[str, list[str]]
) -> Iterator[tuple[str, Path | str, dict[str, str]]]:
    """The jobs of each method; `again` are its replicate observations."""
    tuned = [
        (observation, method, seeds_of(files.settings, method)[0])
        for method, each in again.items()
        for observation in each
    ]
    runs = [*files.run_names()]
    for names in (*runs, *tuned):
        yield "finetune", files.folder.run(*names).weights, _named(*names)
    for method in files.settings.finetune:
        for result in files.method_calibration(method):
            yield "calibrate_method", result, {"method": method}
    for names in runs:
        run = files.folder.run(*names)
        yield "sample", root_file(run.posterior), _named(*names)
        yield "evaluate", run.metrics, _named(*names)


def _named(observation: str, method: str, seed: int) -> dict[str, str]:
    return {"observation": observation, "method": method, "seed": str(seed)}
