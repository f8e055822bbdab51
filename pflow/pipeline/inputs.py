"""Which files each job reads, from the wildcards of its rule.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.config.jobs import ObserveJobSettings, SimulateJobSettings
from pflow.config.priors import FlowPriorSettings, GaussianPriorSettings, ProblemPriorSettings
from pflow.pipeline.files import ExperimentFiles
from pflow.pipeline.job_settings import observe, prior_of, simulate
from pflow.pipeline.resources import JobResources
from pflow.storage.formats import tracked_files
from pflow.storage.layout import RunFolder, root_file

__all__ = ["ONLY_THERE", "JobInputs", "data_files"]

# `operator`: measured anew, its cost is never quite the same. `checked`: a training begins after
# the checks of the operator and of measured data, whose mistakes it would not show.
ONLY_THERE = ("operator", "checked")


def data_files(settings: Any) -> list[str]:
    """The user's files that a job with these settings reads: pairs, a measured observation, or
    images that models are drawn from.
    """
    if isinstance(settings, SimulateJobSettings) and settings.source:
        return tracked_files(settings.source.file)
    if isinstance(settings, ObserveJobSettings) and settings.observation.file:
        return tracked_files(Path(settings.observation.file))
    drawn = isinstance(settings, SimulateJobSettings | ObserveJobSettings)
    images = getattr(settings.problem, "images", None) if drawn else None
    return tracked_files(Path(images)) if images else []


class JobInputs(JobResources):
    """Inputs of every job; a list is empty where a job has no such input."""

    def files(self, experiment: str) -> ExperimentFiles:
        """The files of one experiment."""
        return ExperimentFiles(self.layout.experiment(experiment), self.experiment(experiment))

    def inputs_of(self, stage: str, wildcards: Any) -> dict[str, list[str]]:
        """The inputs of a job by name.

        `data` are files of the user. Those of `ONLY_THERE` have to be there, and decide nothing.
        """
        return getattr(self, f"_{stage}")(wildcards)

    def _simulate(self, wildcards: Any) -> dict[str, list[str]]:
        e, name = self.experiment(wildcards.experiment), wildcards.experiment
        return {"data": data_files(simulate(e, name, wildcards.split, wildcards.shard))}

    def _observe(self, wildcards: Any) -> dict[str, list[str]]:
        e, name = self.experiment(wildcards.experiment), wildcards.experiment
        return {"data": data_files(observe(e, name, wildcards.observation))}

    def _check_operator(self, wildcards: Any) -> dict[str, list[str]]:
        return {}

    def _spectrum(self, wildcards: Any) -> dict[str, list[str]]:
        return {"train": self.files(wildcards.experiment).shards("train")}

    def _reference(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        gaussian = files.settings.reference.kind == "gaussian"
        return {
            "observation": [files.observation(wildcards.observation)],
            "prior": files.spectrum() if gaussian else [],
        }

    def _pretrain(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        start = files.settings.flows[wildcards.flow].start
        return {
            "train": files.shards_of_flow(wildcards.flow, "train"),
            "validation": files.shards_of_flow(wildcards.flow, "validation"),
            "start": [str(files.folder.pretrained(start).weights)] if start else [],
            "checked": [*files.operator(), *files.measured_observations()],
        }

    def _calibrate(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        return {
            "flow": [str(files.folder.pretrained(wildcards.flow).weights)],
            "train": files.shards_of_flow(wildcards.flow, "train")[:1],
            "test": files.held_out()[:1],
            "observations": files.observations(),
        }

    def _calibrate_method(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        return {
            "flows": files.replicate_flows(wildcards.method),
            "observations": files.replicate_observations(wildcards.method),
        }

    def _finetune(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        return {
            "start": self.start_weights(wildcards),
            "prior": self.prior_file(wildcards),
            "reused": self.reused_weights(wildcards),
            "observation": [files.observation(wildcards.observation)],
            "operator": files.operator(),
        }

    def _sample(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        return {
            "flow": [str(self._run(wildcards).weights)],
            "prior": self.prior_file(wildcards),
            "observation": [files.observation(wildcards.observation)],
        }

    def _evaluate(self, wildcards: Any) -> dict[str, list[str]]:
        files, run = self.files(wildcards.experiment), self._run(wildcards)
        return {
            "posterior": [str(root_file(run.posterior))],
            "flow": [str(run.weights)],
            "prior": self.prior_file(wildcards),
            "reference": files.reference(wildcards.observation),
            "calibration": self.calibration_of(wildcards),
            "method_calibration": files.method_calibration(wildcards.method),
        }

    def _figures(self, wildcards: Any) -> dict[str, list[str]]:
        files = self.files(wildcards.experiment)
        return {
            "pairs": files.all_shards(),
            "observations": files.observations(),
            "references": files.references(),
            "training": files.flows(lambda flow: flow.history),
            "histories": files.runs(lambda run: run.history),
            "calibrations": files.flows(lambda flow: flow.calibration),
            "metrics": files.runs(lambda run: run.metrics),
            "posteriors": files.runs(lambda run: root_file(run.posterior)),
        }

    def _report(self, wildcards: Any) -> dict[str, list[str]]:
        all_files = [self.files(name) for name in self.configuration.experiments]
        return {
            "metrics": [f for files in all_files for f in files.runs(lambda run: run.metrics)],
            "figures": [f for files in all_files for f in files.figures()],
            "operators": [f for files in all_files for f in files.operator()],
        }

    def start_weights(self, wildcards: Any) -> list[str]:
        """The pretrained weights that a method starts from."""
        method = self._method(wildcards)
        if method.start != "pretrained":
            return []
        return [str(self.files(wildcards.experiment).folder.pretrained(method.flow).weights)]

    def reused_weights(self, wildcards: Any) -> list[str]:
        """The weights of the method whose evaluations a method reuses, at the same observation and
        seed.
        """
        reused = getattr(self._method(wildcards), "reuse", "")
        folder = self.files(wildcards.experiment).folder
        run = folder.run(wildcards.observation, reused, wildcards.seed)
        return [str(run.weights)] if reused else []

    def prior_file(self, wildcards: Any) -> list[str]:
        """The file that a method's prior is read from: a spectrum, or weights of a flow."""
        prior = prior_of(self.experiment(wildcards.experiment), wildcards.method)
        files = self.files(wildcards.experiment)
        if isinstance(prior, ProblemPriorSettings):
            return []
        if isinstance(prior, GaussianPriorSettings):
            return files.spectrum()
        flow = prior.flow if isinstance(prior, FlowPriorSettings) else self._method(wildcards).flow
        return [str(files.folder.pretrained(flow).weights)]

    def wants_cost(self, wildcards: Any) -> bool:
        """Whether the choice of the method depends on the measured cost of the operator."""
        return self._method(wildcards).tag_value == "auto"

    def calibration_of(self, wildcards: Any) -> list[str]:
        """The calibration of the flow that a method starts from."""
        if not self.start_weights(wildcards):
            return []
        flow = self._method(wildcards).flow
        return [str(self.files(wildcards.experiment).folder.pretrained(flow).calibration)]

    def _run(self, wildcards: Any) -> RunFolder:
        folder = self.files(wildcards.experiment).folder
        return folder.run(wildcards.observation, wildcards.method, wildcards.seed)

    def _method(self, wildcards: Any) -> Any:
        return self.experiment(wildcards.experiment).finetune[wildcards.method]
