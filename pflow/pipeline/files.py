"""The result files of one experiment, from its configuration; a store is named by its root file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pflow.config.experiment import ExperimentSettings
from pflow.config.jobs import SPLITS
from pflow.config.priors import GaussianPriorSettings
from pflow.config.problems import has_operator
from pflow.config.runs import has_reference, run_names, seeds_of
from pflow.pipeline.job_settings import HIGH, prior_of, replicates, shard_count
from pflow.storage.layout import ExperimentFolder, PretrainedFolder, RunFolder, root_file

__all__ = ["ExperimentFiles"]


@dataclass(frozen=True)
class ExperimentFiles:
    """Paths of results, as text, because Snakemake compares text.

    Arguments:
        folder: where the experiment's results lie.
        settings: the experiment.
    """

    folder: ExperimentFolder
    settings: ExperimentSettings

    def shards(self, split: str) -> list[str]:
        """The shards of a split."""
        count = shard_count(self.settings, split)
        return _roots(self.folder.shard(split, k) for k in range(count))

    def held_out(self) -> list[str]:
        """The shards of the pairs that all flows are calibrated on: of high fidelity where the
        experiment has such pairs, because their posteriors are wanted.
        """
        return self.shards(f"{HIGH}test") or self.shards("test")

    def shards_of_flow(self, flow: str, part: str) -> list[str]:
        """The shards of the pairs that a flow learns from: `train` or `validation`."""
        high = self.settings.flows[flow].pairs == "high_fidelity"
        return self.shards(f"{HIGH}{part}" if high else part)

    def all_shards(self) -> list[str]:
        """The shards of all splits."""
        return [shard for split in SPLITS for shard in self.shards(split)]

    def observations(self) -> list[str]:
        """The observations."""
        return _roots(map(self.folder.observation, self.settings.observations))

    def measured_observations(self) -> list[str]:
        """The observations that are measured data."""
        entries = self.settings.observations.items()
        names = [name for name, observation in entries if observation.file is not None]
        return _roots(map(self.folder.observation, names))

    def observation(self, observation: str) -> str:
        """One observation, of the configuration or a replicate."""
        return str(root_file(self.folder.observation(observation)))

    def operator(self) -> list[str]:
        """The check of the operator; empty without an operator (pairs alone)."""
        return [str(self.folder.operator)] if has_operator(self.settings.problem) else []

    def spectrum(self) -> list[str]:
        """The spectrum, also if nothing needs it."""
        return _roots([self.folder.spectrum])

    def spectra(self) -> list[str]:
        """The spectrum, where the reference or the prior of a method needs it."""
        wanted = self.settings.reference.kind == "gaussian" or any(
            isinstance(prior_of(self.settings, method), GaussianPriorSettings)
            for method in self.settings.finetune
        )
        return self.spectrum() if wanted else []

    def references(self) -> list[str]:
        """The reference posteriors, where the experiment has them."""
        return [
            file
            for observation in self.settings.observations
            for file in self.reference(observation)
        ]

    def reference(self, observation: str) -> list[str]:
        """The reference of one observation, if there is one."""
        wanted = has_reference(self.settings, observation)
        return _roots([self.folder.reference(observation)] if wanted else [])

    def flows(self, file: Callable[[PretrainedFolder], Path]) -> list[str]:
        """One file of every pretrained flow."""
        return [str(file(self.folder.pretrained(flow))) for flow in self.settings.flows]

    def runs(self, file: Callable[[RunFolder], Path]) -> list[str]:
        """One file of every observation, method and seed."""
        return [str(file(self.folder.run(*names))) for names in self.run_names()]

    def run_names(self) -> Iterable[tuple[str, str, int]]:
        """(observation, method, seed) of every run."""
        return run_names(self.settings)

    def method_calibration(self, method: str) -> list[str]:
        """The calibration of a method over replicate observations, if it is configured."""
        wanted = replicates(self.settings, method)
        return [str(self.folder.method_calibration(method))] if wanted else []

    def method_calibrations(self) -> list[str]:
        """The calibrations of all methods."""
        return [
            file for method in self.settings.finetune for file in self.method_calibration(method)
        ]

    def replicate_flows(self, method: str) -> list[str]:
        """A method's weights at each of its replicate observations, the first seed."""
        seed = seeds_of(self.settings, method)[0]
        return [
            str(self.folder.run(observation, method, seed).weights)
            for observation in replicates(self.settings, method)
        ]

    def replicate_observations(self, method: str) -> list[str]:
        """The replicate observations of a method."""
        return _roots(map(self.folder.observation, replicates(self.settings, method)))

    def figures(self) -> list[str]:
        """The index of the figures."""
        return [str(self.folder.figure_index)]


def _roots(stores: Iterable[Path]) -> list[str]:
    return [str(root_file(store)) for store in stores]
