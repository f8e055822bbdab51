"""The configuration: every setting a user can write in `config.yaml`, its type, bounds, default and
meaning.

One experiment is one inverse problem y = F(x) + eps with its data, flows and methods. The JSON
schema in `workflow/schemas` and the configuration reference are generated from these classes.
Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pflow.config.data import (
    HighFidelityPairsSettings,
    ObservationSettings,
    PairsSettings,
    SimulateSettings,
)
from pflow.config.decoding import setting
from pflow.config.figures import FiguresSettings
from pflow.config.flows import FlowSettings
from pflow.config.methods import MethodSettings
from pflow.config.priors import PriorSettings, ProblemPriorSettings
from pflow.config.problems import ProblemSettings
from pflow.config.trust import CalibrateSettings, EvaluateSettings, ReferenceSettings
from pflow.config.user_problems import PairsOnlyProblemSettings

__all__ = ["Configuration", "ExperimentSettings", "ResourceSettings", "SampleSettings"]


@dataclass(frozen=True)
class SampleSettings:
    """Draws of each posterior; each is evaluated once with the expensive operator for its
    importance weight.
    """

    draws: int = setting("Draws in posterior.zarr.", 10000, minimum=100)
    score_draws: int = setting(
        "Draws whose score is compared with the posterior's; each costs one evaluation (0: none).",
        256,
        minimum=0,
    )
    prior_draws: int = setting(
        "Draws of the prior used to find posterior mass that the flow misses; each costs one"
        " forward (0: none).",
        1000,
        minimum=0,
    )


@dataclass(frozen=True)
class ResourceSettings:
    """Resources of each training or sampling job of this experiment."""

    threads: int = setting("CPU threads of a training job.", 1, minimum=1)
    memory_mb: int = setting("Memory of a training job, in MB.", 2000, minimum=100)
    runtime_minutes: int = setting("Longest run of a training job, in minutes.", 60, minimum=1)
    observations_per_job: int | None = setting(
        "Observations whose fine-tuning, sampling and evaluation share a job, one after the other."
        " 1: each stage of each observation is a job of its own. Absent: 1 for up to 20"
        " observations; for more, as many as take about ten minutes by the measured cost of the"
        " operator.",
        None,
        minimum=1,
    )
    gpu_model: str = setting(
        "Model of GPU to ask a cluster for with `device: cuda`, such as a100; empty: any.", ""
    )
    gres: str = setting(
        "Where a site wants `--gres` instead of `--gpus`: such as gpu:a100:1; replaces"
        " `gpu_model`.",
        "",
    )


@dataclass(frozen=True)
class ExperimentSettings:
    """One inverse problem from pairs to posterior."""

    observations: dict[str, ObservationSettings] = setting(
        "Observations by name, or paths of measured data; each gets its own posteriors."
    )
    flows: dict[str, FlowSettings] = setting("Flows by name; each is pretrained once.")
    finetune: dict[str, MethodSettings] = setting(
        "Methods by name; each runs once per observation and seed."
    )
    problem: ProblemSettings = setting(
        "Prior, operators and noise. Absent, with `pairs`: no operator is known.",
        factory=PairsOnlyProblemSettings,
    )
    pairs: PairsSettings | None = setting("Existing pairs; they replace `simulate`.", None)
    high_fidelity_pairs: HighFidelityPairsSettings | None = setting(
        "Pairs of the expensive physics, for flows with `pairs: high_fidelity`.",
        None,
        omit_default=True,
    )
    prior: PriorSettings = setting(
        "Prior of the high-fidelity posterior.", factory=ProblemPriorSettings
    )
    title: str = setting("Heading in the report.", "")
    question: str = setting(
        "The question that the experiment answers, in a sentence or two, for the report.", ""
    )
    notes: list[str] = setting("Sentences that the report prints beside the results.", factory=list)
    simulate: SimulateSettings = setting("Low-fidelity pairs.", factory=SimulateSettings)
    reference: ReferenceSettings = setting(
        "Exact posterior draws, where the problem has them.", factory=ReferenceSettings
    )
    seeds: list[int] = setting("Seeds of fine-tuning and sampling.", factory=lambda: [0, 1, 2])
    sample: SampleSettings = setting("Posterior draws.", factory=SampleSettings)
    calibrate: CalibrateSettings = setting(
        "Calibration of the pretrained flows.", factory=CalibrateSettings
    )
    evaluate: EvaluateSettings = setting("How posteriors are judged.", factory=EvaluateSettings)
    figures: FiguresSettings = setting(
        "What the report draws of the posterior.", factory=FiguresSettings
    )
    device: Literal["cpu", "cuda", "auto"] = setting(
        "Where flows train and sample; `cuda` asks the cluster for a GPU.", "cpu"
    )
    resources: ResourceSettings = setting(
        "CPU threads, memory and time of the training jobs.", factory=ResourceSettings
    )


@dataclass(frozen=True)
class Configuration:
    """The whole of `config.yaml`."""

    experiments: dict[str, ExperimentSettings] = setting("Experiments by name.")
    results: str = setting("Folder of all results.", "results")
