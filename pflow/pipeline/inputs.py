"""Which files each job reads, from the wildcards of its rule.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.config.priors import FlowPriorSettings, GaussianPriorSettings, ProblemPriorSettings
from pflow.pipeline.files import ExperimentFiles
from pflow.pipeline.job_settings import prior_of
from pflow.pipeline.resources import JobResources
from pflow.storage.formats import tracked_files

__all__ = ["JobInputs"]


class JobInputs(JobResources):
    """Inputs of every job; a list is empty where a job has no such input."""

    def files(self, experiment: str) -> ExperimentFiles:
        """The files of one experiment."""
        return ExperimentFiles(self.layout.experiment(experiment), self.experiment(experiment))

    def pairs_files(self, wildcards: Any) -> list[str]:
        """The user's file of pairs: shards are made again when it changes."""
        pairs = self.experiment(wildcards.experiment).pairs
        return self._images(wildcards) if pairs is None else tracked_files(pairs.file)

    def measured_files(self, wildcards: Any) -> list[str]:
        """The user's file of a measured observation; a replicate, which is not in the
        configuration, is simulated.
        """
        observations = self.experiment(wildcards.experiment).observations
        observation = observations.get(wildcards.observation)
        if observation is None or observation.file is None:
            return self._images(wildcards)
        return tracked_files(Path(observation.file))

    def _images(self, wildcards: Any) -> list[str]:
        """The file that the models come from."""
        file = getattr(self.experiment(wildcards.experiment).problem, "images", None)
        return [] if file is None else tracked_files(Path(file))

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

    def reference_prior(self, wildcards: Any) -> list[str]:
        """The spectrum behind a Gaussian reference."""
        wanted = self.experiment(wildcards.experiment).reference.kind == "gaussian"
        return self.files(wildcards.experiment).spectrum() if wanted else []

    def wants_cost(self, wildcards: Any) -> bool:
        """Whether the choice of the method depends on the measured cost of the operator."""
        return self._method(wildcards).tag_value == "auto"

    def reference_of(self, wildcards: Any) -> list[str]:
        """The reference of one observation."""
        return self.files(wildcards.experiment).reference(wildcards.observation)

    def calibration_of(self, wildcards: Any) -> list[str]:
        """The calibration of the flow that a method starts from."""
        if not self.start_weights(wildcards):
            return []
        flow = self._method(wildcards).flow
        return [str(self.files(wildcards.experiment).folder.pretrained(flow).calibration)]

    def method_calibration(self, wildcards: Any) -> list[str]:
        """The calibration of a method over replicate observations."""
        return self.files(wildcards.experiment).method_calibration(wildcards.method)

    def replicate_flows(self, wildcards: Any) -> list[str]:
        """A method's weights at each of its replicate observations."""
        return self.files(wildcards.experiment).replicate_flows(wildcards.method)

    def replicate_observations(self, wildcards: Any) -> list[str]:
        """The replicate observations of a method."""
        return self.files(wildcards.experiment).replicate_observations(wildcards.method)

    def _method(self, wildcards: Any) -> Any:
        return self.experiment(wildcards.experiment).finetune[wildcards.method]
