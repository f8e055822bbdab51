"""What the Snakefile needs to know: which files exist, what each job depends on, what it asks of the machine.

Imports neither torch nor matplotlib: a dry run stays fast.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pflow.config import Configuration, Experiment, load_configuration
from pflow.errors import PflowError
from pflow.fingerprint import code_fingerprint
from pflow.stage_settings import report_settings, settings_for, shard_count

__all__ = ["Pipeline", "check_yaml"]

FIGURES = {"posterior": ("png",), "objective": ("png", "svg"), "accuracy": ("png", "svg"), "marginals": ("png",)}


def check_yaml(path: str | Path) -> None:
    """Say where a configuration file is not YAML, before Snakemake says only that it is not.

    Raises:
        PflowError: the file is missing or not YAML.
    """
    try:
        yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PflowError(f"{path} cannot be read ({error.strerror}): run snakemake in the folder of the Snakefile") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PflowError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', error)}") from error


class Pipeline:
    """Files, settings and resources of every job, from the configuration alone."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.configuration: Configuration = load_configuration(config)
        self.results = self.configuration.results
        self.python = sys.executable
        _require_writable(Path(self.results))
        self._fingerprints: dict[str, str] = {}

    # --- params: what invalidates a job ---

    def settings(self, stage: str) -> Callable[[Any], str]:
        """The settings text of a job, as a function of its wildcards."""
        if stage == "report":
            return lambda wildcards: report_settings(self.configuration)
        return lambda wildcards: settings_for(self.configuration, stage, **dict(wildcards.items()))

    def code(self, stage: str) -> str:
        """Fingerprint of the code that the stage can reach."""
        if stage not in self._fingerprints:
            self._fingerprints[stage] = f"code {code_fingerprint(stage)}"
        return self._fingerprints[stage]

    def pretraining_code(self, wildcards: Any) -> str:
        """The same for a pretraining; with `track_code: false` the code that made the weights stays the right one."""
        made_by = None
        if not self.experiment(wildcards.experiment).flows[wildcards.flow].pretrain.track_code:
            made_by = _recorded_code(Path(self.results, wildcards.experiment, "pretrained", wildcards.flow, "flow.json"))
        return f"code {made_by}" if made_by else self.code("pretrain")

    # --- files ---

    def shards(self, experiment: str, split: str) -> list[str]:
        """Root files of the shards of a split."""
        count = shard_count(self.experiment(experiment), split)
        return [f"{self.results}/{experiment}/pairs/{split}/shard-{k}.zarr/zarr.json" for k in range(count)]

    def start_weights(self, wildcards: Any) -> list[str]:
        """The pretrained weights that a method starts from, if it does."""
        method = self.experiment(wildcards.experiment).finetune[wildcards.method]
        if method.start != "pretrained":
            return []
        return [f"{self.results}/{wildcards.experiment}/pretrained/{method.flow}/flow.safetensors"]

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
        return [f"{self.results}/{experiment}/posteriors/{o}/reference.zarr/zarr.json" for o in self.experiment(experiment).observations]

    def reference_of(self, wildcards: Any) -> list[str]:
        """The reference of one observation, if there is one."""
        return [path for path in self.references(wildcards.experiment) if f"/posteriors/{wildcards.observation}/reference.zarr/" in path]

    def calibration_of(self, wildcards: Any) -> list[str]:
        """The calibration of the flow that a method starts from, if it starts from one."""
        return [str(Path(weights).with_name("calibration.json")) for weights in self.start_weights(wildcards)]

    def observations(self, experiment: str) -> list[str]:
        """Root files of the observations."""
        return [f"{self.results}/{experiment}/observations/{o}.zarr/zarr.json" for o in self.experiment(experiment).observations]

    def flows(self, experiment: str, name: str) -> list[str]:
        """`name` (such as history.csv) of every pretrained flow."""
        return [f"{self.results}/{experiment}/pretrained/{flow}/{name}" for flow in self.experiment(experiment).flows]

    def figures(self, experiment: str) -> str:
        """The index of an experiment's figures."""
        return f"{self.results}/{experiment}/figures/index.json"

    def stage_files(self, stage: str, experiment: str) -> list[str]:
        """All results of one stage of one experiment."""
        splits = ("train", "validation", "test", "high_fidelity")
        return {
            "simulate": lambda: [s for split in splits for s in self.shards(experiment, split)],
            "observe": lambda: self.observations(experiment),
            "check_operator": lambda: [f"{self.results}/{experiment}/operator.json"],
            "reference": lambda: self.references(experiment),
            "pretrain": lambda: self.flows(experiment, "flow.safetensors"),
            "calibrate": lambda: self.flows(experiment, "calibration.json"),
            "finetune": lambda: self.runs(experiment, "flow.safetensors"),
            "sample": lambda: self.runs(experiment, "posterior.zarr/zarr.json"),
            "evaluate": lambda: self.runs(experiment, "metrics.json"),
            "figures": lambda: [self.figures(experiment)],
        }[stage]()

    def products(self, experiment: str) -> list[str]:
        """What a user looks at: a missing one is made again. Pairs and observations are made again when a job needs them."""
        made = ("check_operator", "reference", "pretrain", "calibrate", "finetune", "sample", "evaluate", "figures")
        return [file for stage in made for file in self.stage_files(stage, experiment)]

    # --- resources ---

    def experiment(self, name: str) -> Experiment:
        """The settings of one experiment."""
        return self.configuration.experiments[name]

    def threads(self, wildcards: Any) -> int:
        """CPU threads of a training job."""
        return self.experiment(wildcards.experiment).resources.threads

    def memory(self, wildcards: Any, attempt: int) -> int:
        """MB of a training job; a retry gets more."""
        return self.experiment(wildcards.experiment).resources.memory_mb * attempt

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Minutes of a training job; a retry gets more."""
        return self.experiment(wildcards.experiment).resources.runtime_minutes * attempt

    def gpu(self, wildcards: Any) -> int:
        """GPUs of a training or sampling job; 0 where the site's `gres` asks for them."""
        e = self.experiment(wildcards.experiment)
        return int(e.device == "cuda" and not e.resources.gres)

    def pretraining_threads(self, wildcards: Any) -> int:
        """CPU threads of all processes of a pretraining."""
        return self.threads(wildcards) * self.devices(wildcards)

    def pretraining_gpus(self, wildcards: Any) -> int:
        """One GPU a process."""
        return self.gpu(wildcards) * self.devices(wildcards)

    def devices(self, wildcards: Any) -> int:
        """Processes of a pretraining."""
        return self.experiment(wildcards.experiment).flows[wildcards.flow].pretrain.devices

    def gpu_model(self, wildcards: Any) -> str:
        """The model of GPU to ask for, or "" for any."""
        return self.experiment(wildcards.experiment).resources.gpu_model if self.gpu(wildcards) else ""

    def gres(self, wildcards: Any) -> str:
        """The generic resource to ask for, or ""."""
        e = self.experiment(wildcards.experiment)
        return e.resources.gres if e.device == "cuda" else ""


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
        raise PflowError(f"`results` (={results}) must be a folder that can be written, and {folder} cannot: choose another `results` or change its permissions")
    if shutil.disk_usage(folder).free < 10 * 2**20:
        raise PflowError(f"`results` (={results}) must have room, and its disk has less than 10 MB left: free some space or choose another `results`")
