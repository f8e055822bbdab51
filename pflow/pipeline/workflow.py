"""What the Snakefile needs to know: which files exist, and what each job depends on
(`job_resources`: what it asks of the machine).

Imports neither torch nor matplotlib: a dry run stays fast.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pflow.config.experiment import load_configuration
from pflow.config.jobs import prior_of, replicates, report_settings, settings_for, shard_count
from pflow.config.priors import (
    FlowPriorSettings,
    GaussianPriorSettings,
    PriorSettings,
    ProblemPriorSettings,
)
from pflow.config.problems import has_operator
from pflow.errors import PflowError
from pflow.pipeline.resources import JobResources
from pflow.provenance.planned import planned_code
from pflow.storage.formats import tracked_files

__all__ = ["Pipeline", "check_yaml", "offer_this_python"]


def check_yaml(path: str | Path) -> None:
    """Say where a configuration file is not YAML, before Snakemake says only that it is not.

    Raises:
        PflowError: the file is missing or not YAML.
    """
    try:
        yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PflowError(
            f"{path} cannot be read ({error.strerror}): run snakemake in the folder of the"
            " Snakefile"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PflowError(
            f"{path}{place}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from error


def offer_this_python() -> None:
    """Jobs call `python`: where the environment of this one is not activated, it becomes the first
    (--sdm conda puts its own before it).
    """
    folder, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    if folder not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((folder, path))


class Pipeline(JobResources):
    """Files, settings and resources of every job, from the configuration, and runtimes from the
    measured cost of the operator.
    """

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        super().__init__(load_configuration(config))
        _require_writable(Path(self.results))
        # A job asks for its settings and for its code, one after the other.
        self._text = lru_cache(maxsize=8)(self._settings_text)

    # --- params: what invalidates a job ---

    def settings(self, stage: str) -> Callable[[Any], str]:
        """The settings text of a job, as a function of its wildcards."""
        return lambda wildcards: self._text(stage, tuple(wildcards.items()))

    def code(self, stage: str) -> Callable[[Any], str]:
        """Fingerprint of the code that a job can reach, as a function of its wildcards."""
        return lambda wildcards: (
            f"code-{planned_code(stage, self._text(stage, tuple(wildcards.items())))}"
        )

    def _settings_text(self, stage: str, wildcards: tuple[tuple[str, str], ...]) -> str:
        if stage == "report":
            return report_settings(self.configuration)
        return settings_for(self.configuration, stage, **dict(wildcards))

    def pretraining_code(self, wildcards: Any) -> str:
        """The same for a pretraining; with `track_code: false` the code that made the weights stays
        the right one.
        """
        made_by = None
        if not self.experiment(wildcards.experiment).flows[wildcards.flow].pretrain.track_code:
            made_by = _recorded_code(
                Path(self.results, wildcards.experiment, "pretrained", wildcards.flow, "flow.json")
            )
        return f"code-{made_by}" if made_by else self.code("pretrain")(wildcards)

    # --- files ---

    def shards(self, experiment: str, split: str) -> list[str]:
        """Root files of the shards of a split."""
        count = shard_count(self.experiment(experiment), split)
        return [
            f"{self.results}/{experiment}/pairs/{split}/shard-{k}.zarr/zarr.json"
            for k in range(count)
        ]

    def pairs_files(self, wildcards: Any) -> list[str]:
        """The user's file of pairs, where there is one: pairs are cut again when it changes."""
        pairs = self.experiment(wildcards.experiment).pairs
        return self._images_of(wildcards.experiment) if pairs is None else tracked_files(pairs.file)

    def measured_files(self, wildcards: Any) -> list[str]:
        """The user's file of a measured observation."""
        observation = self.experiment(wildcards.experiment).observations.get(
            wildcards.observation
        )  # None: a replicate, which is simulated
        measured = observation is not None and observation.file is not None
        return (
            tracked_files(Path(observation.file))
            if measured
            else self._images_of(wildcards.experiment)
        )

    def _images_of(self, experiment: str) -> list[str]:
        """The file that models are cut from, where there is one."""
        file = getattr(self.experiment(experiment).problem, "images", None)
        return [] if file is None else tracked_files(Path(file))

    def checked_operator(self, experiment: str) -> list[str]:
        """operator.json; nothing where there is no operator, with pairs alone."""
        return (
            [f"{self.results}/{experiment}/operator.json"]
            if has_operator(self.experiment(experiment).problem)
            else []
        )

    def start_weights(self, wildcards: Any) -> list[str]:
        """The pretrained weights that a method starts from, if it does."""
        method = self.experiment(wildcards.experiment).finetune[wildcards.method]
        if method.start != "pretrained":
            return []
        return [f"{self.results}/{wildcards.experiment}/pretrained/{method.flow}/flow.safetensors"]

    def reused_weights(self, wildcards: Any) -> list[str]:
        """The weights of the method whose evaluations a method reuses, at the same observation and
        seed.
        """
        reused = getattr(
            self.experiment(wildcards.experiment).finetune[wildcards.method], "reuse", ""
        )
        folder = f"{self.results}/{wildcards.experiment}/posteriors/{wildcards.observation}/{reused}/seed-{wildcards.seed}"
        return [f"{folder}/flow.safetensors"] if reused else []

    def prior_file(self, wildcards: Any) -> list[str]:
        """The file that a method's prior is read from: a spectrum, weights of a flow, or none."""
        experiment = self.experiment(wildcards.experiment)
        return self._file_of(
            prior_of(experiment, wildcards.method),
            wildcards.experiment,
            experiment.finetune[wildcards.method].flow,
        )

    def reference_prior(self, wildcards: Any) -> list[str]:
        """The spectrum behind a Gaussian reference."""
        wanted = self.experiment(wildcards.experiment).reference.kind == "gaussian"
        return [self.spectrum(wildcards.experiment)] if wanted else []

    def spectrum(self, experiment: str) -> str:
        """Root file of the average spectrum of the training images."""
        return f"{self.results}/{experiment}/prior/spectrum.zarr/zarr.json"

    def spectra(self, experiment: str) -> list[str]:
        """The spectrum, where a reference or the prior of a method needs it."""
        e = self.experiment(experiment)
        wanted = e.reference.kind == "gaussian" or any(
            isinstance(prior_of(e, method), GaussianPriorSettings) for method in e.finetune
        )
        return [self.spectrum(experiment)] if wanted else []

    def _file_of(self, prior: PriorSettings, experiment: str, flow: str) -> list[str]:
        if isinstance(prior, ProblemPriorSettings):
            return []
        if isinstance(prior, GaussianPriorSettings):
            return [self.spectrum(experiment)]
        name = prior.flow if isinstance(prior, FlowPriorSettings) else flow
        return [f"{self.results}/{experiment}/pretrained/{name}/flow.safetensors"]

    def wants_cost(self, wildcards: Any) -> bool:
        """Whether the method is chosen by the measured cost of the operator."""
        return self.experiment(wildcards.experiment).finetune[wildcards.method].tag_value == "auto"

    def runs(self, experiment: str, name: str) -> list[str]:
        """`name` (such as metrics.json) of every observation, method and seed."""
        e = self.experiment(experiment)
        return [
            f"{self.results}/{experiment}/posteriors/{observation}/{method}/seed-{seed}/{name}"
            for observation in e.observations
            for method in e.finetune
            for seed in e.seeds
        ]

    def references(self, experiment: str) -> list[str]:
        """Root files of the reference posteriors, where the experiment has them."""
        if self.experiment(experiment).reference.kind == "none":
            return []
        return [
            f"{self.results}/{experiment}/posteriors/{o}/reference.zarr/zarr.json"
            for o in self.experiment(experiment).observations
        ]

    def reference_of(self, wildcards: Any) -> list[str]:
        """The reference of one observation, if there is one."""
        return [
            path
            for path in self.references(wildcards.experiment)
            if f"/posteriors/{wildcards.observation}/reference.zarr/" in path
        ]

    def calibration_of(self, wildcards: Any) -> list[str]:
        """The calibration of the flow that a method starts from, if it starts from one."""
        return [
            str(Path(weights).with_name("calibration.json"))
            for weights in self.start_weights(wildcards)
        ]

    def method_calibration(self, experiment: str, method: str) -> list[str]:
        """The calibration of a method over replicate observations, where it is wanted."""
        return (
            [f"{self.results}/{experiment}/calibration/{method}.json"]
            if replicates(self.experiment(experiment), method)
            else []
        )

    def replicate_flows(self, wildcards: Any) -> list[str]:
        """A method's weights at each of its replicate observations, the first seed."""
        e, folder = (
            self.experiment(wildcards.experiment),
            f"{self.results}/{wildcards.experiment}/posteriors",
        )
        return [
            f"{folder}/{name}/{wildcards.method}/seed-{e.seeds[0]}/flow.safetensors"
            for name in replicates(e, wildcards.method)
        ]

    def replicate_observations(self, wildcards: Any) -> list[str]:
        """The replicate observations of a method."""
        e, folder = (
            self.experiment(wildcards.experiment),
            f"{self.results}/{wildcards.experiment}/observations",
        )
        return [f"{folder}/{name}.zarr/zarr.json" for name in replicates(e, wildcards.method)]

    def observations(self, experiment: str) -> list[str]:
        """Root files of the observations."""
        return [
            f"{self.results}/{experiment}/observations/{o}.zarr/zarr.json"
            for o in self.experiment(experiment).observations
        ]

    def flows(self, experiment: str, name: str) -> list[str]:
        """`name` (such as history.csv) of every pretrained flow."""
        return [
            f"{self.results}/{experiment}/pretrained/{flow}/{name}"
            for flow in self.experiment(experiment).flows
        ]

    def figures(self, experiment: str) -> str:
        """The index of an experiment's figures."""
        return f"{self.results}/{experiment}/figures/index.json"

    def stage_files(self, stage: str, experiment: str) -> list[str]:
        """All results of one stage of one experiment."""
        splits = ("train", "validation", "test", "high_fidelity")
        return {
            "simulate": lambda: [s for split in splits for s in self.shards(experiment, split)],
            "observe": lambda: self.observations(experiment),
            "check_operator": lambda: self.checked_operator(experiment),
            "spectrum": lambda: self.spectra(experiment),
            "reference": lambda: self.references(experiment),
            "pretrain": lambda: self.flows(experiment, "flow.safetensors"),
            "calibrate": lambda: self.flows(experiment, "calibration.json"),
            "calibrate_method": lambda: [
                f
                for method in self.experiment(experiment).finetune
                for f in self.method_calibration(experiment, method)
            ],
            "finetune": lambda: self.runs(experiment, "flow.safetensors"),
            "sample": lambda: self.runs(experiment, "posterior.zarr/zarr.json"),
            "evaluate": lambda: self.runs(experiment, "metrics.json"),
            "figures": lambda: [self.figures(experiment)],
        }[stage]()

    def products(self, experiment: str) -> list[str]:
        """What a user looks at: a missing one is made again. Pairs and observations are made again
        when a job needs them.
        """
        made = (
            "check_operator",
            "reference",
            "pretrain",
            "calibrate",
            "calibrate_method",
            "finetune",
            "sample",
            "evaluate",
            "figures",
        )
        return [file for stage in made for file in self.stage_files(stage, experiment)]

    def wanted(
        self, experiments: list[str], last: tuple[str, ...] = ()
    ) -> Callable[[Any], list[str]]:
        """The files to ask for, so that every product is made: the last ones, which need all
        others, and each that is missing.

        Snakemake does not miss an earlier file while later ones are there. To ask for every product
        always would say the same, but fill the screen: it prints all that it was asked for. Before
        the first product nothing is missing that the last ones do not need.
        """

        def files(wildcards: Any) -> list[str]:
            asked = [
                *last,
                *(
                    file
                    for name in experiments
                    for file in (*self.checked_operator(name), self.figures(name))
                ),
            ]
            for name in experiments:
                products = self.products(name)
                missing = [file for file in products if not Path(file).exists()]
                asked += missing if len(missing) < len(products) else []
            return list(dict.fromkeys(asked))

        return files


def _recorded_code(about: Path) -> str | None:
    try:
        return json.loads(about.read_text(encoding="utf-8"))["code_fingerprint"]
    except (OSError, ValueError, KeyError):
        return None


def _require_writable(results: Path) -> None:
    folder = results
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise PflowError(
            f"`results` (={results}) must be a folder that can be written, and {folder} cannot:"
            " choose another `results` or change its permissions"
        )
    if shutil.disk_usage(folder).free < 10 * 2**20:
        raise PflowError(
            f"`results` (={results}) must have room, and its disk has less than 10 MB left: free"
            " some space or choose another `results`"
        )
