"""One experiment in its folder: which jobs a posterior or a pretrained flow needs, and whether
results that are there were made with other settings.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pflow.config.results_folder import results_folder
from pflow.config.runs import seeds_of
from pflow.errors import PflowError
from pflow.notebook.card import Card
from pflow.notebook.configuration import (
    FLOW,
    configuration_file,
    read_configuration,
    write_configuration,
)
from pflow.notebook.observation import write_data
from pflow.notebook.running import run_jobs
from pflow.pipeline.long_arguments import settings_text
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.settings_difference import settings_difference
from pflow.pipeline.workflow import Pipeline
from pflow.provenance.code import forget_code
from pflow.provenance.planned import forget_plan
from pflow.storage.layout import ExperimentFolder, Layout, PretrainedFolder, RunFolder, whole
from pflow.storage.origins import read_origin

__all__ = ["EXAMPLE", "Place", "make_flow", "make_posterior", "run_configured"]

OF_EXPERIMENTS = ("figures", "report")  # not needed for a posterior
EXAMPLE = "example"  # a simulated observation, because an experiment has at least one


class Place(NamedTuple):
    """Where an experiment lies.

    Attributes:
        results: folder of all results.
        name: of the experiment, and so of its folder.
    """

    results: Path
    name: str

    @classmethod
    def at(cls, folder: str | Path, name: str) -> Place:
        """The place; characters of a name that a folder should not have become underscores."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "problem"
        return cls(Path(results_folder(str(folder))), name)

    @property
    def folder(self) -> ExperimentFolder:
        """The folder of the experiment."""
        return Layout(self.results).experiment(self.name)

    @property
    def file(self) -> Path:
        """Its configuration."""
        return configuration_file(self.results, self.name)

    def known(self) -> dict[str, Any]:
        """The experiment as it was configured last; empty at first."""
        return read_configuration(self.file).get("experiments", {}).get(self.name, {})

    def configuration(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with this experiment alone."""
        return {"results": self.results.as_posix(), "experiments": {self.name: dict(experiment)}}


def make_posterior(
    place: Place,
    experiment: Mapping[str, Any],
    observation: str,
    data: np.ndarray,
    *,
    method: str,
    pretrained: Card | None = None,
    replace: bool = False,
    threads: int = 1,
) -> RunFolder:
    """Make all that the posterior of one observation needs; at once where it is there.

    Arguments:
        place: of the experiment.
        experiment: its settings; observations and methods of earlier calls are kept beside them.
        observation: its name.
        data: y, (*data).
        method: of `finetune`.
        pretrained: a flow from elsewhere, which is not trained again.
        replace: whether results of other settings are made again, or refused.
        threads: for torch.

    Raises:
        PflowError: the configuration is not valid, a result has other settings, or a job fails.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", observation):
        raise PflowError(
            f"`observation` (={observation!r}) becomes a folder: use letters, digits, '_' and '-'"
        )
    file = place.results / place.name / "data" / f"{observation}.npy"
    write_data(file, data, replace)
    known = place.known()
    others = {k: v for k, v in known.get("observations", {}).items() if k != EXAMPLE}
    experiment = {
        "title": place.name,
        **experiment,
        "observations": {**others, observation: {"file": file.as_posix()}},
        "finetune": {**known.get("finetune", {}), **experiment["finetune"]},
    }
    if pretrained is not None:
        pretrained.place(place.folder.pretrained(FLOW).folder, place.name, replace)
    return run_configured(
        place, experiment, observation, method, pretrained is not None, replace, threads
    )


def run_configured(
    place: Place,
    experiment: Mapping[str, Any],
    observation: str,
    method: str,
    has_flow: bool = False,
    replace: bool = False,
    threads: int = 1,
) -> RunFolder:
    """Make the posterior of an observation that is in the settings; arguments as above."""
    pipeline = _plan(place.configuration(experiment))
    seed = seeds_of(pipeline.experiment(place.name), method)[0]
    run = place.folder.run(observation, method, seed)
    mine = {"observation": observation, "method": method, "seed": str(seed)}
    _make(place, pipeline, experiment, mine, str(run.metrics), has_flow, replace, threads)
    return run


def make_flow(
    place: Place, experiment: Mapping[str, Any], replace: bool = False, threads: int = 1
) -> PretrainedFolder:
    """Pretrain the flow of an experiment and calibrate it; at once where that is done.

    Raises:
        PflowError: the configuration is not valid, a result has other settings, or a job fails.
    """
    known = place.known()
    experiment = {
        "title": place.name,
        **experiment,
        "observations": known.get("observations") or {EXAMPLE: {"seed": 1}},
        "finetune": {**experiment["finetune"], **known.get("finetune", {})},
    }
    flow = place.folder.pretrained(FLOW)
    pipeline = _plan(place.configuration(experiment))
    _make(place, pipeline, experiment, {}, str(flow.calibration), False, replace, threads)
    return flow


def _plan(configuration: Mapping[str, Any]) -> Pipeline:
    """The jobs of a configuration, as the Snakefile plans them."""
    forget_plan()
    forget_code()
    return Pipeline(copy.deepcopy(dict(configuration)), Path())


def _make(
    place: Place,
    pipeline: Pipeline,
    experiment: Mapping[str, Any],
    mine: Mapping[str, str],
    result: str,
    has_flow: bool,
    replace: bool,
    threads: int,
) -> None:
    """Make a result and what it needs, if nothing there has other settings."""
    flow = str(place.folder.pretrained(FLOW).weights)
    jobs = [
        job
        for job in planned_jobs(pipeline)
        if job.stage not in OF_EXPERIMENTS
        and not (has_flow and job.result == flow)
        and all(value == mine.get(key, value) for key, value in job.wildcards.items())
    ]
    if not replace:
        _require_same_settings(pipeline, jobs)
    write_configuration(place.file, place.configuration(experiment))
    wanted = [job for job in jobs if job.result == result]
    run_jobs(pipeline, wanted, threads, given={flow} if has_flow else set())


def _require_same_settings(pipeline: Pipeline, jobs: list[PlannedJob]) -> None:
    """Whether the results that are there were made with the settings that are wanted; only the
    budget may have grown.

    Raises:
        PflowError: one was made with others.
    """
    for job in jobs:
        origin = read_origin(Path(job.result))
        if origin is None or not Path(job.result).is_file():
            continue
        wanted = settings_text(pipeline.settings(job.stage)(job.wildcards))
        old, new = (_comparable(text) for text in (origin.settings, wanted))
        if old == new or _only_grew(old, new):
            continue
        difference = settings_difference(old, new)
        if "problem.session" in difference:
            difference = f"the code or the data of the problem differ, {difference}"
        raise PflowError(
            f"{whole(Path(job.result))} was made with other settings ({difference}):"
            " give these results another `name`; or replace=True makes again what differs"
        )


def _comparable(text: str) -> str:
    """Settings without the part of a fingerprint that stands for pflow's own code, whose changes
    make results anew.
    """
    settings = json.loads(text)
    problem = settings.get("problem") or {}
    for key in ("session", "code"):
        if key in problem:
            problem[key] = re.sub(r"-[0-9a-f]{8}$", "", problem[key])
    return json.dumps(settings, sort_keys=True)


def _only_grew(old: str, new: str) -> bool:
    """Whether nothing differs but a larger budget."""
    before, after = json.loads(old), json.loads(new)
    if "method" not in before or "method" not in after:
        return False
    spent, allowed = (s["method"].pop("evaluations", 0) for s in (before, after))
    return before == after and spent < allowed
