"""Tells Snakemake which results are out of date. Its own records decide only where a result does
not say what made it.

The Snakefile alone imports this module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake.io import IOFile, ancient
from snakemake.settings.types import RerunTrigger

from pflow.pipeline.batch_jobs import BATCH_RULES
from pflow.pipeline.batch_sizes import keep_sizes
from pflow.pipeline.inputs import ONLY_THERE
from pflow.pipeline.modules import is_module
from pflow.pipeline.out_of_date import UNTIMED, Comparison, compare
from pflow.pipeline.planned_jobs import planned_jobs
from pflow.pipeline.workflow import Pipeline

__all__ = ["Reruns"]

RECORDS = {RerunTrigger.PARAMS, RerunTrigger.INPUT}


class Reruns:
    """The comparison of the results with what is wanted, and what Snakemake makes of it.

    Arguments:
        workflow: Snakemake's.
        pipeline: the configuration.
    """

    def __init__(self, workflow: Any, pipeline: Pipeline) -> None:
        self._workflow, self._pipeline = workflow, pipeline
        self._is_module = is_module(workflow)
        self._comparison, self._results = Comparison(), {}
        if not workflow.is_main_process:  # a batch job makes what its controller planned
            return
        self._comparison = compare(pipeline)
        self._results = {
            (job.stage, *job.wildcards.items()): job.result for job in planned_jobs(pipeline)
        }
        keep_sizes({str(Path(file).parent): b.size for file, b in pipeline.batches.items()})
        if summary := self._comparison.summary():
            print(summary, file=sys.stderr)

    def inputs(self, stage: str) -> Callable[[Any], dict[str, list[str]]]:
        """The inputs of a job as a function of its wildcards; a job whose result is out of date is
        made again.
        """

        def files(wildcards: Any) -> dict[str, list[str]]:
            self._set_aside_records()
            if stage in BATCH_RULES:
                result = self._pipeline.batch_of(stage, wildcards).file
                inputs = self._pipeline.batch_inputs(result)
                again = result in self._comparison.unfinished
                right = result in self._comparison.finished
            else:
                result = self._results.get((stage, *wildcards.items()), "")
                inputs = self._pipeline.inputs_of(stage, wildcards)
                again = result in self._comparison.reasons or self._is_unknown(result)
                right = result in self._comparison.right
            if again:
                self._workflow.dag.forcefiles.add(result)
            old = UNTIMED if right else ONLY_THERE
            # A deleted check is repeated, and a new observation is checked; neither trains again.
            if "checked" in inputs and not again and Path(result).exists():
                inputs["checked"] = [path for path in inputs["checked"] if Path(path).exists()]
            return {
                name: [path if self._is_made(path, name) else ancient(path) for path in paths]
                if name in old
                else paths
                for name, paths in (
                    (name, self._pipeline.tracked(read)) for name, read in inputs.items()
                )
            }

        return files

    def _set_aside_records(self) -> None:
        """Where all results say what made them, Snakemake's records of params and inputs do not
        count: they may be those of other results. In a module they do, for the other rules' sake.
        """
        if not self._comparison.unrecorded and not self._is_module:
            settings = self._workflow.dag_settings
            settings.rerun_triggers = frozenset(settings.rerun_triggers) - RECORDS

    def _is_made(self, path: str, name: str) -> bool:
        """Whether a rule outside of pflow makes a file of the user's: then its time counts."""
        return (
            self._is_module
            and name == "data"
            and any(rule.is_producer(path) for rule in self._workflow.rules)
        )

    def _is_unknown(self, result: str) -> bool:
        """Whether nothing says what made a result: neither itself nor Snakemake."""
        if result not in self._comparison.unrecorded:
            return False
        return self._workflow.persistence.metadata(IOFile(result)) is None
