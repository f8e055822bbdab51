"""The settings of a job of each stage, as passed on its command line.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pflow.config.data import PairsSettings
from pflow.config.decoding import setting
from pflow.config.experiment import ExperimentSettings, ObservationSettings, SampleSettings
from pflow.config.figures import FiguresSettings
from pflow.config.flows import FlowSettings
from pflow.config.methods import MethodSettings
from pflow.config.priors import PriorSettings, ProblemPriorSettings
from pflow.config.problems import ProblemSettings
from pflow.config.trust import CalibrateSettings, EvaluateSettings, ReferenceSettings

__all__ = [
    "SPLITS",
    "BatchJobSettings",
    "CalibrateJobSettings",
    "CheckOperatorJobSettings",
    "EvaluateJobSettings",
    "FiguresJobSettings",
    "FinetuneJobSettings",
    "ObserveJobSettings",
    "PretrainJobSettings",
    "ReferenceJobSettings",
    "ReportJobSettings",
    "SampleJobSettings",
    "SimulateJobSettings",
    "SpectrumJobSettings",
    "with_workers",
]

Split = Literal[
    "train",
    "validation",
    "test",
    "high_fidelity",
    "high_fidelity_train",
    "high_fidelity_validation",
    "high_fidelity_test",
]
SPLITS: tuple[str, ...] = get_args(Split)
Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class SimulateJobSettings:
    """One shard of pairs."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    split: Split = setting(
        "train, validation and test use the low-fidelity operator; high_fidelity the other one;"
        " high_fidelity_train, ... are cut from `source`."
    )
    shard: int = setting("Index of the shard.", minimum=0)
    pairs: int = setting("Pairs in this shard; with `source` its split decides.", minimum=0)
    seed: int = setting("Seed of all pairs.", minimum=0)
    source: PairsSettings | None = setting("Pairs that exist already, to cut the shard from.", None)


@dataclass(frozen=True)
class ObserveJobSettings:
    """One observation."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    observation: ObservationSettings = setting("True model and noise.")


@dataclass(frozen=True)
class CheckOperatorJobSettings:
    """The tests of an experiment's operator."""

    problem: ProblemSettings = setting("Prior, operators and noise.")


@dataclass(frozen=True)
class ReferenceJobSettings:
    """The reference posterior at one observation."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    reference: ReferenceSettings = setting("Number and seed of the draws.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")


@dataclass(frozen=True)
class SpectrumJobSettings:
    """The average spectrum of the training images."""

    experiment: str = setting("Name of the experiment.")


@dataclass(frozen=True)
class PretrainJobSettings:
    """The pretraining of one flow."""

    flow: FlowSettings = setting("Architecture and training.")
    device: Device = setting("Where to train.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow.")


@dataclass(frozen=True)
class FinetuneJobSettings:
    """The fine-tuning of one method at one observation with one seed."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    flow: FlowSettings = setting("Architecture, for a start from random weights.")
    method: MethodSettings = setting("Objective, budget and optimiser.")
    seed: int = setting("Seed of weights and draws.", minimum=0)
    device: Device = setting("Where to train.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")
    name: str = setting("Name of the method.")
    prior: PriorSettings = setting("Prior of the posterior.", factory=ProblemPriorSettings)


@dataclass(frozen=True)
class SampleJobSettings:
    """The draws of one run."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    sample: SampleSettings = setting("Numbers of draws.")
    seed: int = setting("Seed of the draws.", minimum=0)
    device: Device = setting("Where to sample.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")
    method: str = setting("Name of the method.")
    prior: PriorSettings = setting("Prior of the posterior.", factory=ProblemPriorSettings)


@dataclass(frozen=True)
class CalibrateJobSettings:
    """The calibration of a flow over held-out pairs, or of a method over replicates."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    calibrate: CalibrateSettings = setting("Pairs and draws.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow, or of the method.")


@dataclass(frozen=True)
class EvaluateJobSettings:
    """The metrics of one run."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    evaluate: EvaluateSettings = setting("How posteriors are judged.")
    observation: str = setting("Name of the observation.")
    fine_tuned: bool = setting("Whether the flow was trained on this observation.")
    prior: PriorSettings = setting("Prior of the posterior.", factory=ProblemPriorSettings)


@dataclass(frozen=True)
class FiguresJobSettings:
    """The figures of one experiment."""

    problem: ProblemSettings = setting("Prior, operators and noise.")
    experiment: str = setting("Name of the experiment.")
    observations: list[str] = setting("Observations to draw.")
    methods: dict[str, str] = setting("Label of each method, in drawing order.")
    flows: list[str] = setting("Flows whose training curves are drawn.")
    seeds: list[int] = setting("Seeds of each method.")
    figures: FiguresSettings = setting("What is drawn.", factory=FiguresSettings)
    runs: dict[str, dict[str, list[int]]] | None = setting(
        "Seeds of each method at each observation; absent: all methods with all seeds.",
        None,
        omit_default=True,
    )
    other_priors: list[str] | None = setting(
        "Methods under another prior than the experiment's; absent: none.", None, omit_default=True
    )

    def seeds_at(self, observation: str) -> dict[str, list[int]]:
        """The seeds of each method that runs at an observation."""
        if self.runs is None:
            return dict.fromkeys(self.methods, self.seeds)
        return self.runs[observation]


@dataclass(frozen=True)
class ReportJobSettings:
    """The page over all experiments."""

    experiments: dict[str, ExperimentSettings] = setting("All experiments, as configured.")


@dataclass(frozen=True)
class BatchJobSettings:
    """Some stages of several observations, one after the other; each job of them has the settings
    that it has by itself.
    """

    name: str = setting("Name of the experiment.")
    results: str = setting("Folder of all results.")
    stages: list[str] = setting("Stages, in their order.")
    observations_per_job: int = setting("Observations in a full batch.", minimum=1)
    experiment: ExperimentSettings = setting(
        "The experiment, with the observations of the batch alone."
    )
    method: str = setting("Method of the runs; empty for other stages.", "")
    seed: str = setting("Seed of the runs; empty for other stages.", "")


def with_workers(problem: ProblemSettings, count: int) -> ProblemSettings:
    """The problem with the number of processes that evaluate its operator, if it has that setting;
    results do not depend on it.
    """
    workers: dict[str, Any] = {"workers": count} if hasattr(problem, "workers") else {}
    return dataclasses.replace(problem, **workers)
