"""The layout of the folder of results; all its paths are defined here and only here.

    Layout("results").experiment("rosenbrock").run("y1", "replay", 0).metrics

A name may be a wildcard of Snakemake, such as "{experiment}". A Zarr store is a folder, and
`root_file` is the file in it that Snakemake tracks. Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pflow.storage.checkpoint_folder import CheckpointFolder

__all__ = [
    "ABOUT",
    "BATCHES",
    "CHECKPOINTS",
    "FLOW_FILES",
    "CheckpointFolder",
    "ExperimentFolder",
    "FlowFolder",
    "Layout",
    "MethodFolder",
    "PretrainedFolder",
    "RunFolder",
    "root_file",
    "whole",
]

ROOT_FILE = "zarr.json"
CHECKPOINTS = ".checkpoints"
SEED = "seed-"
BATCHES, BATCH = ".batches", "batch-"
FIGURE_INDEX = "index.json"
HISTORY, ABOUT, WEIGHTS = FLOW_FILES = ("history.csv", "flow.json", "flow.safetensors")
POSTERIOR = "posterior.zarr"


def root_file(store: Path) -> Path:
    """The file of a Zarr store whose content changes with the store's."""
    return store / ROOT_FILE


def whole(path: Path) -> Path:
    """The store that a root file belongs to; any other path is returned unchanged."""
    return path.parent if path.name == ROOT_FILE else path


@dataclass(frozen=True)
class FlowFolder:
    """A trained flow."""

    folder: Path

    @property
    def weights(self) -> Path:
        """Weights and architecture."""
        return self.folder / WEIGHTS

    @property
    def about(self) -> Path:
        """Cost, stop reason and provenance."""
        return self.folder / ABOUT

    @property
    def history(self) -> Path:
        """Loss and accuracy by step."""
        return self.folder / HISTORY


@dataclass(frozen=True)
class PretrainedFolder(FlowFolder):
    """A flow pretrained on low-fidelity pairs."""

    @property
    def calibration(self) -> Path:
        """Calibration over held-out pairs: numbers."""
        return self.folder / "calibration.json"

    @property
    def ranks(self) -> Path:
        """Calibration over held-out pairs: the store of ranks."""
        return self.folder / "calibration.zarr"


@dataclass(frozen=True)
class RunFolder(FlowFolder):
    """One seed of one method at one observation."""

    @property
    def posterior(self) -> Path:
        """The store of draws."""
        return self.folder / POSTERIOR

    @property
    def metrics(self) -> Path:
        """Accuracy, cost and verdict."""
        return self.folder / "metrics.json"

    @property
    def seed(self) -> int:
        """The seed in the folder's name."""
        return int(self.folder.name.removeprefix(SEED))


@dataclass(frozen=True)
class MethodFolder:
    """One method at one observation: a folder for each seed."""

    folder: Path

    def run(self, seed: int | str) -> RunFolder:
        """The run of one seed."""
        return RunFolder(self.folder / f"{SEED}{seed}")

    def sampled(self) -> list[RunFolder]:
        """The runs whose draws exist, by seed."""
        stores = self.folder.glob(f"{SEED}*/{POSTERIOR}/{ROOT_FILE}")
        return sorted((RunFolder(file.parents[1]) for file in stores), key=lambda run: run.seed)


@dataclass(frozen=True)
class ExperimentFolder:
    """One experiment."""

    folder: Path

    @property
    def operator(self) -> Path:
        """Tests of the operator and its cost."""
        return self.folder / "operator.json"

    @property
    def spectrum(self) -> Path:
        """Store of the average spectrum of the training images."""
        return self.folder / "prior" / "spectrum.zarr"

    @property
    def flows(self) -> Path:
        """Folder of the pretrained flows."""
        return self.folder / "pretrained"

    @property
    def posteriors(self) -> Path:
        """Folder with a folder for each observation."""
        return self.folder / "posteriors"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.folder / "figures"

    @property
    def figure_index(self) -> Path:
        """The figures' captions."""
        return self.figures / FIGURE_INDEX

    def shard(self, split: str, shard: int | str) -> Path:
        """Store of one shard of pairs."""
        return self.folder / "pairs" / split / f"shard-{shard}.zarr"

    def observation(self, observation: str) -> Path:
        """Store of one observation."""
        return self.folder / "observations" / f"{observation}.zarr"

    def reference(self, observation: str) -> Path:
        """Store of the reference posterior at one observation."""
        return self.posteriors / observation / "reference.zarr"

    def pretrained(self, flow: str) -> PretrainedFolder:
        """One pretrained flow."""
        return PretrainedFolder(self.flows / flow)

    def run(self, observation: str, method: str, seed: int | str) -> RunFolder:
        """One seed of one method at one observation."""
        return MethodFolder(self.posteriors / observation / method).run(seed)

    def method_calibration(self, method: str) -> Path:
        """Calibration of a method over replicate observations."""
        return self.folder / "calibration" / f"{method}.json"

    def pretraining_checkpoint(self, flow: str) -> CheckpointFolder:
        """The checkpoint of a pretraining."""
        return CheckpointFolder(self.folder / CHECKPOINTS / self.flows.name / flow)

    def run_checkpoint(self, observation: str, method: str, seed: int | str) -> CheckpointFolder:
        """The checkpoint of a fine-tuning."""
        folder = self.folder / CHECKPOINTS / observation / method / f"{SEED}{seed}"
        return CheckpointFolder(folder)

    def kept_points(self, observation: str) -> Path:
        """Evaluations of a reference by NUTS that has not ended."""
        return self.folder / CHECKPOINTS / observation / "reference" / "points"

    def observation_batch(self, batch: int | str) -> Path:
        """What a job of several observations has made."""
        return self.folder / "observations" / BATCHES / f"{BATCH}{batch}.json"

    def reference_batch(self, batch: int | str) -> Path:
        """The same of the references of several observations."""
        return self.posteriors / BATCHES / "reference" / f"{BATCH}{batch}.json"

    def run_batch(self, method: str, seed: int | str, batch: int | str) -> Path:
        """The same of the runs of a method and a seed at several observations."""
        return self.run(BATCHES, method, seed).folder / f"{BATCH}{batch}.json"

    def batch_log(self, *names: str) -> Path:
        """The log of a job of several observations."""
        return self.log("batches", *names)

    def batch_benchmark(self, *names: str) -> Path:
        """Time and memory of a job of several observations."""
        return self.benchmark("batches", *names)

    def log(self, stage: str, *names: str) -> Path:
        """The log of a job; `names` distinguish the jobs of a stage."""
        return _named(self.folder / "logs", "log", stage, *names)

    def benchmark(self, stage: str, *names: str) -> Path:
        """Time and memory of a job."""
        return _named(self.folder / "benchmarks", "tsv", stage, *names)

    def run_log(self, stage: str, observation: str, method: str, seed: int | str) -> Path:
        """The log of a stage of a run."""
        return self.log(stage, observation, method, f"{SEED}{seed}")

    def run_benchmark(self, stage: str, observation: str, method: str, seed: int | str) -> Path:
        """Time and memory of a stage of a run."""
        return self.benchmark(stage, observation, method, f"{SEED}{seed}")


@dataclass(frozen=True)
class Layout:
    """The folder of results."""

    results: Path

    @property
    def report(self) -> Path:
        """The page over all experiments."""
        return self.results / "report.html"

    @property
    def partial_report(self) -> Path:
        """The page over what is complete, where other runs have failed."""
        return self.results / "partial_report.html"

    @property
    def failures(self) -> Path:
        """What failed, for the partial page."""
        return self.results / "logs" / "failures.json"

    def experiment(self, name: str) -> ExperimentFolder:
        """The folder of one experiment."""
        return ExperimentFolder(self.results / name)

    def log(self, stage: str) -> Path:
        """The log of a stage over all experiments."""
        return _named(self.results / "logs", "log", stage)

    def benchmark(self, stage: str) -> Path:
        """Time and memory of a stage over all experiments."""
        return _named(self.results / "benchmarks", "tsv", stage)

    def finished(self) -> list[Path]:
        """All results kept until the controller has recorded the end of their jobs."""
        any_experiment = Layout(Path()).experiment("*")
        places = (
            any_experiment.pretraining_checkpoint("*").finished,
            any_experiment.run_checkpoint("*", "*", "*").finished,
        )
        return [kept for place in places for kept in self.results.glob(str(place))]


def _named(folder: Path, suffix: str, *names: str) -> Path:
    return folder.joinpath(*names[:-1], f"{names[-1]}.{suffix}")
