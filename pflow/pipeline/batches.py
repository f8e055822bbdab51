"""Batches: jobs that run some stages of several observations, one observation after the other, in
one process.

Snakemake tracks a batch by one small file, which lists what the batch has made. The results
themselves, their settings and their origins are those of single jobs. Standard library and
settings only, because the Snakefile reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pflow.pipeline.batch_sizes import has_batches, observations_per_job
from pflow.pipeline.files import ExperimentFiles
from pflow.storage.layout import ExperimentFolder, RunFolder, root_file

__all__ = [
    "OBSERVE",
    "REFERENCE",
    "RUNS",
    "Batch",
    "batches_of",
    "made_by_batches",
    "observations_made",
    "read_batch",
]

OBSERVE, REFERENCE = ("observe",), ("reference",)
RUNS = ("finetune", "sample", "evaluate")


@dataclass(frozen=True)
class Batch:
    """Some observations of an experiment.

    Attributes:
        experiment: its name.
        stages: of each observation.
        observations: their names, in order.
        size: observations of a full batch.
        file: what says what the batch has made.
        method: of the runs; empty for other stages.
        seed: of the runs; empty for other stages.
    """

    experiment: str
    stages: tuple[str, ...]
    observations: tuple[str, ...]
    size: int
    file: str
    method: str = ""
    seed: str = ""


def batches_of(files: ExperimentFiles) -> Iterator[Batch]:
    """All batches of an experiment; none where each job has one observation.

    Arguments:
        files: of the experiment.
    """
    if not has_batches(files.settings):
        return
    observations, folder = list(files.settings.observations), files.folder
    yield from _cut(files, OBSERVE, observations, folder.observation_batch)
    referenced = [name for name in observations if files.reference(name)]
    yield from _cut(files, REFERENCE, referenced, folder.reference_batch)
    runs = sorted(((m, s, o) for o, m, s in files.run_names()), key=lambda run: run[:2])
    order = {name: k for k, name in enumerate(observations)}
    for (method, seed), group in groupby(runs, key=lambda run: run[:2]):
        names = sorted((name for _, _, name in group), key=order.__getitem__)
        file = partial(folder.run_batch, method, seed)
        yield from _cut(files, RUNS, names, file, method, str(seed))


def made_by_batches(folder: ExperimentFolder, batches: Iterable[Batch]) -> dict[str, str]:
    """The file of the batch that makes a result, by the result's path.

    Arguments:
        folder: of the experiment.
        batches: of the experiment.
    """
    made: dict[str, str] = {}
    for batch in batches:
        for name in batch.observations:
            if batch.stages == RUNS:
                results = _results(folder.run(name, batch.method, batch.seed))
            elif batch.stages == REFERENCE:
                results = [root_file(folder.reference(name))]
            else:
                results = [root_file(folder.observation(name))]
            made |= dict.fromkeys(map(str, results), batch.file)
    return made


def read_batch(file: str | Path) -> dict[str, Any]:
    """What a batch has made: `observations_per_job`, the hashes of the results of each of its
    `observations`, and why others have `failed`; empty if it has not ended, or the file is damaged.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    names = ("observations_per_job", "observations", "failed")
    return content if isinstance(content, dict) and set(names) <= set(content) else {}


def observations_made(file: Path) -> list[Path]:
    """The observations that a batch of them has made: the root files of their stores."""
    folder = ExperimentFolder(file.parents[2])
    names = read_batch(file).get("observations", {})
    return [root_file(folder.observation(name)) for name in names]


def _results(run: RunFolder) -> list[Path]:
    return [run.weights, run.about, run.history, root_file(run.posterior), run.metrics]


def _cut(
    files: ExperimentFiles,
    stages: tuple[str, ...],
    observations: list[str],
    file: Callable[[int], Path],
    method: str = "",
    seed: str = "",
) -> Iterator[Batch]:
    """Batches of equal size; `file` is that of each number."""
    if not observations:
        return
    size = observations_per_job(
        files.settings, files.folder, stages, file(0).parent, len(observations), method
    )
    for number, start in enumerate(range(0, len(observations), size)):
        yield Batch(
            files.folder.folder.name,
            stages,
            tuple(observations[start : start + size]),
            size,
            str(file(number)),
            method,
            seed,
        )
