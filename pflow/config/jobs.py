"""What each job depends on: the part of the configuration that its rule sees, as JSON on its
command line.

A change elsewhere in `config.yaml` leaves the text unchanged, so Snakemake reruns exactly what the
change touches. Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from pflow.config.data import PairsSettings
from pflow.config.decoding import encode, setting
from pflow.config.experiment import (
    Configuration,
    ExperimentSettings,
    ObservationSettings,
    ResourceSettings,
    SampleSettings,
)
from pflow.config.flows import (
    ConditionalHintFlowSettings,
    CouplingFlowSettings,
    FlowSettings,
    PretrainSettings,
)
from pflow.config.methods import MethodSettings
from pflow.config.priors import PriorSettings, ProblemPriorSettings
from pflow.config.problems import ProblemSettings
from pflow.config.trust import CalibrateSettings, EvaluateSettings, ReferenceSettings

__all__ = [
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
    "prior_of",
    "replicates",
    "report_settings",
    "settings_for",
    "shard_count",
    "with_workers",
]

REPLICATE = "replicate-"
FIRST_REPLICATE_SEED = 10**6
Split = Literal["train", "validation", "test", "high_fidelity"]
Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class SimulateJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")
    split: Split = setting("train, validation and test use the low-fidelity operator.")
    shard: int = setting("Index of the shard.", minimum=0)
    pairs: int = setting("Pairs in this shard; with `source` its split decides.", minimum=0)
    seed: int = setting("Seed of all pairs.", minimum=0)
    source: PairsSettings | None = setting("Pairs that exist already, to cut the shard from.", None)


@dataclass(frozen=True)
class ObserveJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")
    observation: ObservationSettings = setting("True model and noise.")


@dataclass(frozen=True)
class CheckOperatorJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")


@dataclass(frozen=True)
class ReferenceJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")
    reference: ReferenceSettings = setting("Number and seed of the draws.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")


@dataclass(frozen=True)
class SpectrumJobSettings:
    experiment: str = setting("Name of the experiment.")


@dataclass(frozen=True)
class PretrainJobSettings:
    flow: FlowSettings = setting("Architecture and training.")
    device: Device = setting("Where to train.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow.")


@dataclass(frozen=True)
class FinetuneJobSettings:
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
    problem: ProblemSettings = setting("Prior, operators and noise.")
    calibrate: CalibrateSettings = setting("Pairs and draws.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow, or of the method.")


@dataclass(frozen=True)
class EvaluateJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")
    evaluate: EvaluateSettings = setting("How posteriors are judged.")
    observation: str = setting("Name of the observation.")
    fine_tuned: bool = setting("Whether the flow was trained on this observation.")
    prior: PriorSettings = setting("Prior of the posterior.", factory=ProblemPriorSettings)


@dataclass(frozen=True)
class FiguresJobSettings:
    problem: ProblemSettings = setting("Prior, operators and noise.")
    experiment: str = setting("Name of the experiment.")
    observations: list[str] = setting("Observations to draw.")
    methods: dict[str, str] = setting("Label of each method, in drawing order.")
    flows: list[str] = setting("Flows whose training curves are drawn.")
    seeds: list[int] = setting("Seeds of each method.")


@dataclass(frozen=True)
class ReportJobSettings:
    experiments: dict[str, ExperimentSettings] = setting("All experiments, as configured.")


def shard_count(experiment: ExperimentSettings, split: str) -> int:
    """Number of shards of a split: ceil(pairs / shard_size); of pairs that exist already as many as
    they say, of the training split.
    """
    if experiment.pairs is not None:
        return {"train": experiment.pairs.shards, "high_fidelity": 0}.get(split, 1)
    return -(-getattr(experiment.simulate, split) // experiment.simulate.shard_size)


def prior_of(experiment: ExperimentSettings, method: str) -> PriorSettings:
    """The prior of a method's posterior: its own, or the experiment's."""
    return experiment.finetune[method].prior or experiment.prior


def settings_for(configuration: Configuration, stage: str, experiment: str, **names: Any) -> str:
    """The JSON text for one job of `stage`; `names` are the wildcards of its rule."""
    e = _with_one_worker(configuration.experiments[experiment])
    build = {
        "simulate": _simulate,
        "observe": lambda e, n, observation: ObserveJobSettings(
            e.problem, _observation(e, observation)
        ),
        "check_operator": lambda e, n: CheckOperatorJobSettings(e.problem),
        "spectrum": lambda e, n: SpectrumJobSettings(n),
        "reference": lambda e, n, observation: ReferenceJobSettings(
            e.problem, e.reference, n, observation
        ),
        "pretrain": lambda e, n, flow: PretrainJobSettings(
            _without_execution(e.flows[flow]), e.device, n, flow
        ),
        "finetune": _finetune,
        "sample": lambda e, n, observation, method, seed: SampleJobSettings(
            e.problem, e.sample, int(seed), e.device, n, observation, method, prior_of(e, method)
        ),
        "calibrate": lambda e, n, flow: CalibrateJobSettings(
            e.problem, dataclasses.replace(e.calibrate, fine_tuned=0), n, flow
        ),
        "calibrate_method": lambda e, n, method: CalibrateJobSettings(
            e.problem, dataclasses.replace(e.calibrate, fine_tuned=0), n, method
        ),
        "evaluate": lambda e, n, observation, method, **_: EvaluateJobSettings(
            e.problem,
            e.evaluate,
            observation,
            e.finetune[method].tag_value != "none",
            prior_of(e, method),
        ),
        "figures": lambda e, n: FiguresJobSettings(
            e.problem,
            n,
            list(e.observations),
            {k: m.label or k for k, m in e.finetune.items()},
            list(e.flows),
            e.seeds,
        ),
    }[stage]
    return json.dumps(encode(build(e, experiment, **names)), sort_keys=True)


def report_settings(configuration: Configuration) -> str:
    """The JSON text for the report: it shows the whole configuration, less what jobs ask of the
    machine.
    """
    experiments = {
        name: dataclasses.replace(
            _with_one_worker(e),
            resources=ResourceSettings(),
            flows={k: _with_one_device(f) for k, f in e.flows.items()},
        )
        for name, e in configuration.experiments.items()
    }
    return json.dumps(encode(ReportJobSettings(experiments)), sort_keys=True)


def _simulate(
    e: ExperimentSettings, name: str, split: str, shard: str | int
) -> SimulateJobSettings:
    if e.pairs is not None:
        return SimulateJobSettings(
            e.problem,
            split,
            int(shard),
            0,
            e.pairs.seed,
            e.pairs if split == "train" else dataclasses.replace(e.pairs, shards=1),
        )
    total, size, k = getattr(e.simulate, split), e.simulate.shard_size, int(shard)
    return SimulateJobSettings(e.problem, split, k, min(size, total - k * size), e.simulate.seed)


def replicates(experiment: ExperimentSettings, method: str) -> list[str]:
    """Names of the observations on which a method is fine-tuned to see whether its posteriors are
    calibrated.

    They come from the prior that the method assumes; so a prior that pflow cannot draw from has
    none.
    """
    entry = experiment.finetune[method]
    wanted = entry.tag_value != "none" and isinstance(
        prior_of(experiment, method), ProblemPriorSettings
    )
    return [f"{REPLICATE}{k}" for k in range(experiment.calibrate.fine_tuned if wanted else 0)]


def _observation(e: ExperimentSettings, name: str) -> ObservationSettings:
    if name in e.observations:
        return e.observations[name]
    return ObservationSettings(seed=FIRST_REPLICATE_SEED + int(name.removeprefix(REPLICATE)))


def _finetune(
    e: ExperimentSettings, name: str, observation: str, method: str, seed: str | int
) -> FinetuneJobSettings:
    entry = e.finetune[method]
    architecture = _without_pretraining(e.flows[entry.flow])
    prior, entry = prior_of(e, method), dataclasses.replace(entry, label="", prior=None)
    return FinetuneJobSettings(
        e.problem, architecture, entry, int(seed), e.device, name, observation, method, prior
    )


def with_workers(problem: ProblemSettings, count: int) -> ProblemSettings:
    """The problem whose operator is evaluated in so many processes, where it can be: an execution
    setting, on which no result depends.
    """
    return dataclasses.replace(problem, workers=count) if hasattr(problem, "workers") else problem


def _with_one_worker(e: ExperimentSettings) -> ExperimentSettings:
    """Their number reaches a job beside its settings, like that of threads, and invalidates
    nothing.
    """
    return dataclasses.replace(e, problem=with_workers(e.problem, 1))


def _with_one_device(
    flow: CouplingFlowSettings | ConditionalHintFlowSettings,
) -> CouplingFlowSettings | ConditionalHintFlowSettings:
    """The number of processes and nodes, like that of threads, invalidates nothing."""
    return dataclasses.replace(
        flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, nodes=1)
    )


def _without_execution(
    flow: CouplingFlowSettings | ConditionalHintFlowSettings,
) -> CouplingFlowSettings | ConditionalHintFlowSettings:
    """How pretraining is executed and whether its code is tracked does not invalidate its
    weights.
    """
    return dataclasses.replace(
        flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, nodes=1, track_code=True)
    )


def _without_pretraining(
    flow: CouplingFlowSettings | ConditionalHintFlowSettings,
) -> CouplingFlowSettings | ConditionalHintFlowSettings:
    """Pretraining settings reach fine-tuning through the weights alone."""
    return dataclasses.replace(flow, pretrain=PretrainSettings())
