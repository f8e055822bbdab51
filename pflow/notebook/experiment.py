"""One observation of one experiment: which jobs it needs, and whether results that are there were
made with other settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pflow.errors import PflowError
from pflow.notebook.configuration import METHOD, configuration_file, write_configuration
from pflow.notebook.running import run_jobs
from pflow.pipeline.long_arguments import settings_text
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.settings_difference import settings_difference
from pflow.pipeline.workflow import Pipeline
from pflow.provenance.code import forget_code
from pflow.provenance.planned import forget_plan
from pflow.storage.layout import RunFolder, whole
from pflow.storage.origins import read_origin

__all__ = ["OF_EXPERIMENTS", "make_posterior", "plan", "require_same_settings"]

OF_EXPERIMENTS = ("figures", "report")  # not needed for a posterior
BUDGET = "method.evaluations"


def plan(configuration: Mapping[str, Any]) -> Pipeline:
    """The jobs of a configuration, as the Snakefile plans them.

    Raises:
        PflowError: the configuration is not valid.
    """
    forget_plan()
    forget_code()
    return Pipeline(dict(configuration), Path())


def make_posterior(
    configuration: Mapping[str, Any],
    name: str,
    observation: str,
    *,
    replace: bool = False,
    threads: int = 1,
    method: str = METHOD,
) -> RunFolder:
    """Make all that the posterior of one observation needs; at once where it is there.

    Arguments:
        configuration: with one experiment, `name`; it is written beside the results.
        name: of the experiment.
        observation: its name.
        replace: whether results of other settings are made again, or refused.
        threads: for torch.
        method: of `finetune`.

    Raises:
        PflowError: the configuration is not valid, a result has other settings, or a job fails.
    """
    pipeline = plan(configuration)
    seed = pipeline.experiment(name).seeds[0]
    run = pipeline.layout.experiment(name).run(observation, method, seed)
    mine = {"observation": observation, "method": method, "seed": str(seed)}
    jobs = [
        job
        for job in planned_jobs(pipeline)
        if job.stage not in OF_EXPERIMENTS
        and all(value == mine.get(key, value) for key, value in job.wildcards.items())
    ]
    if not replace:
        require_same_settings(pipeline, jobs)
    write_configuration(configuration_file(pipeline.layout.results, name), configuration)
    run_jobs(pipeline, [job for job in jobs if job.result == str(run.metrics)], threads)
    return run


def require_same_settings(pipeline: Pipeline, jobs: list[PlannedJob]) -> None:
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
        raise PflowError(
            f"{whole(Path(job.result))} was made with other settings ({_in_words(difference)}):"
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


def _in_words(difference: str) -> str:
    return (
        difference
        if "problem.session" not in difference
        else f"the code or the data of the problem differ, {difference}"
    )
