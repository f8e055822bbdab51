"""The interface of the Snakefile: the files, and the inputs, dependencies and resources of each
job.

Imports neither torch nor matplotlib: a dry run stays fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pflow.config.loading import load_configuration
from pflow.pipeline.batch_jobs import BATCH_RULES, BatchJobs
from pflow.pipeline.checks import check_data_paths, check_writable
from pflow.pipeline.stages import STAGES

__all__ = ["RULES", "Pipeline", "offer_this_python"]

# Names of the rules, which are targets as experiments are.
RULES = (
    "all",
    "simulate_shard",
    "observe_data",
    "check_forward_operator",
    "estimate_spectrum",
    "reference_posterior",
    "pretrain_flow",
    "finetune_flow",
    "sample_posterior",
    "calibrate_flow",
    "calibrate_fine_tuning",
    "evaluate_posterior",
    "draw_figures",
    "write_report",
    *BATCH_RULES,
)


def offer_this_python() -> None:
    """Put the environment of this `python` first on PATH, because jobs call `python` (--sdm conda
    puts its own before it).
    """
    folder, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if folder not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((folder, path))


class Pipeline(BatchJobs):
    """Files, settings and resources of every job, from the configuration, and runtimes from the
    measured cost of the operator.

    Arguments:
        config: the configuration.
        folder: of the project.
        data_made: whether rules outside of pflow may make measured data, which are not there yet.
        planned: whether nothing is planned here: in a job of a workflow, or to list its state.
    """

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        *,
        data_made: bool = False,
        planned: bool = False,
    ) -> None:
        super().__init__(
            load_configuration(
                config, reserved=(*STAGES, *RULES), data_made=data_made, planned=planned
            )
        )
        check_writable(self.layout.results)
        for name, experiment in self.configuration.experiments.items():
            check_data_paths(name, experiment)

    def stage_files(self, stage: str, experiment: str) -> list[str]:
        """All results of one stage of one experiment."""
        files = STAGES[stage].files
        return [] if files is None else files(self.files(experiment))

    def target(self, stage: str) -> list[str]:
        """All results of one stage."""
        if STAGES[stage].files is None:
            return [str(self.layout.report)]
        return self.tracked(
            file
            for experiment in self.configuration.experiments
            for file in self.stage_files(stage, experiment)
        )

    def products(self, experiment: str) -> list[str]:
        """Results for users: a missing one is made again."""
        return [
            file
            for stage in STAGES.values()
            if stage.product
            for file in self.stage_files(stage.name, experiment)
        ]

    def wanted(
        self, experiments: list[str], last: tuple[str, ...] = ()
    ) -> Callable[[Any], list[str]]:
        """The files to request so that every product is made: the last ones, which need all others,
        and each missing one.

        Snakemake does not remake an earlier file while later ones exist. Requesting every product
        would give the same plan but a long output, because Snakemake prints all requested files.
        Before the first product exists, the last ones need everything that is missing.
        """

        def files(wildcards: Any) -> list[str]:
            asked = [
                *last,
                *(
                    file
                    for name in experiments
                    for file in (*self.files(name).operator(), *self.files(name).figures())
                ),
            ]
            for name in experiments:
                products = self.products(name)
                missing = [file for file in products if not Path(file).exists()]
                asked += missing if len(missing) < len(products) else []
            return self.tracked(asked)

        return files
