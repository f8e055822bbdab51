"""Resources of each job: threads, memory, time and GPUs.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pflow.config.experiment import Configuration, ExperimentSettings
from pflow.pipeline.runtime import measured_minutes, operator_calls
from pflow.storage.layout import Layout

__all__ = ["JobResources"]


class JobResources:
    """Resources of every job.

    Arguments:
        configuration: the whole configuration.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.layout = Layout(Path(configuration.results))

    def experiment(self, name: str) -> ExperimentSettings:
        """The settings of one experiment."""
        return self.configuration.experiments[name]

    def threads(self, wildcards: Any) -> int:
        """CPU threads of a training job."""
        return self.experiment(wildcards.experiment).resources.threads

    def chains(self, wildcards: Any) -> int:
        """CPU threads of a reference: one for each chain of NUTS."""
        reference = self.experiment(wildcards.experiment).reference
        return reference.chains if reference.kind == "nuts" else 1

    def threads_of(self, stage: str, wildcards: Any) -> int:
        """CPU threads of a job of one observation."""
        if stage in ("finetune", "sample"):
            return self.threads(wildcards)
        return self.chains(wildcards) if stage == "reference" else 1

    def workers(self, wildcards: Any) -> int:
        """Processes that evaluate the operator."""
        return getattr(self.experiment(wildcards.experiment).problem, "workers", 1)

    def memory(self, wildcards: Any, attempt: int) -> int:
        """MB of a training job; a retry gets more."""
        return self.experiment(wildcards.experiment).resources.memory_mb * attempt

    def runtime(self, stage: str) -> Callable[[Any, int], int]:
        """Minutes of a job: the configured ones, or more if the measured cost of the operator
        requires it; a retry gets more.
        """

        def minutes(wildcards: Any, attempt: int) -> int:
            e = self.experiment(wildcards.experiment)
            calls = operator_calls(
                e, stage, getattr(wildcards, "method", None), getattr(wildcards, "split", "train")
            )
            operator = self.layout.experiment(wildcards.experiment).operator
            measured = measured_minutes(operator, *calls)
            return max(e.resources.runtime_minutes, measured) * attempt

        return minutes

    def gpu(self, wildcards: Any) -> int:
        """GPUs of a training or sampling job; 0 if the site's `gres` requests them. `auto` requests
        one too, and uses the CPU without it.
        """
        e = self.experiment(wildcards.experiment)
        return int(e.device != "cpu" and not e.resources.gres)

    def pretraining_threads(self, wildcards: Any) -> int:
        """CPU threads of all processes of a pretraining on one node."""
        return self.threads(wildcards) * self.devices(wildcards)

    def pretraining_gpus(self, wildcards: Any) -> int:
        """One GPU per process on one node; on several nodes `pretraining_gres` requests as many on
        each.
        """
        return self.gpu(wildcards) * self.devices(wildcards) if self.nodes(wildcards) == 1 else 0

    def pretraining_gres(self, wildcards: Any) -> str:
        """The generic resource of each node, one GPU a process, or ""."""
        wanted = self.gres(wildcards)
        if self.gpu(wildcards) and self.nodes(wildcards) > 1:
            wanted = ":".join(filter(None, ("gpu", self.gpu_model(wildcards))))
        if not wanted:
            return ""
        name, _, count = wanted.rpartition(":")
        kind, each = (name, int(count)) if name and count.isdigit() else (wanted, 1)
        return f"{kind}:{each * self.devices(wildcards)}"

    def devices(self, wildcards: Any) -> int:
        """Processes of a pretraining on each node."""
        return self.experiment(wildcards.experiment).flows[wildcards.flow].pretrain.devices

    def nodes(self, wildcards: Any) -> int:
        """Nodes of a pretraining."""
        return self.experiment(wildcards.experiment).flows[wildcards.flow].pretrain.nodes

    def launcher(self, wildcards: Any) -> str | None:
        """The setting that lets a job start a task on each of several nodes; the executor calls it
        `mpi`.
        """
        return "srun" if self.nodes(wildcards) > 1 else None

    def gpu_model(self, wildcards: Any) -> str:
        """The model of GPU to ask for, or "" for any."""
        return (
            self.experiment(wildcards.experiment).resources.gpu_model if self.gpu(wildcards) else ""
        )

    def gres(self, wildcards: Any) -> str:
        """The generic resource to ask for, or ""."""
        e = self.experiment(wildcards.experiment)
        return e.resources.gres if e.device != "cpu" else ""
