"""What each job depends on: the part of the configuration that its rule sees, as JSON on its command line.

A change elsewhere in `config.yaml` leaves the text unchanged, so Snakemake reruns exactly what the change touches.
Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from pflow.config import Configuration, Experiment, Observation, Resources, Sample
from pflow.config_flows import ConditionalHintFlow, CouplingFlow, Flow, Pretrain
from pflow.config_data import Pairs
from pflow.config_methods import Method
from pflow.config_priors import Prior, ProblemPrior
from pflow.config_problems import Problem
from pflow.config_trust import Calibrate, Evaluate, Reference
from pflow.decoding import encode, setting

__all__ = [
    "CalibrateSettings",
    "CheckOperatorSettings",
    "EvaluateSettings",
    "FiguresSettings",
    "FinetuneSettings",
    "ObserveSettings",
    "PretrainSettings",
    "ReferenceSettings",
    "ReportSettings",
    "SampleSettings",
    "SimulateSettings",
    "SpectrumSettings",
    "prior_of",
    "replicates",
    "report_settings",
    "settings_for",
    "settings_hash",
    "shard_count",
    "with_workers",
]

REPLICATE = "replicate-"
FIRST_REPLICATE_SEED = 10**6
Split = Literal["train", "validation", "test", "high_fidelity"]
Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class SimulateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    split: Split = setting("train, validation and test use the low-fidelity operator.")
    shard: int = setting("Index of the shard.", minimum=0)
    pairs: int = setting("Pairs in this shard; with `source` its split decides.", minimum=0)
    seed: int = setting("Seed of all pairs.", minimum=0)
    source: Pairs | None = setting("Pairs that exist already, to cut the shard from.", None)


@dataclass(frozen=True)
class ObserveSettings:
    problem: Problem = setting("Prior, operators and noise.")
    observation: Observation = setting("True model and noise.")


@dataclass(frozen=True)
class CheckOperatorSettings:
    problem: Problem = setting("Prior, operators and noise.")


@dataclass(frozen=True)
class ReferenceSettings:
    problem: Problem = setting("Prior, operators and noise.")
    reference: Reference = setting("Number and seed of the draws.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")


@dataclass(frozen=True)
class SpectrumSettings:
    experiment: str = setting("Name of the experiment.")


@dataclass(frozen=True)
class PretrainSettings:
    flow: Flow = setting("Architecture and training.")
    device: Device = setting("Where to train.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow.")


@dataclass(frozen=True)
class FinetuneSettings:
    problem: Problem = setting("Prior, operators and noise.")
    flow: Flow = setting("Architecture, for a start from random weights.")
    method: Method = setting("Objective, budget and optimiser.")
    seed: int = setting("Seed of weights and draws.", minimum=0)
    device: Device = setting("Where to train.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")
    name: str = setting("Name of the method.")
    prior: Prior = setting("Prior of the posterior.", factory=ProblemPrior)


@dataclass(frozen=True)
class SampleSettings:
    problem: Problem = setting("Prior, operators and noise.")
    sample: Sample = setting("Numbers of draws.")
    seed: int = setting("Seed of the draws.", minimum=0)
    device: Device = setting("Where to sample.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")
    method: str = setting("Name of the method.")
    prior: Prior = setting("Prior of the posterior.", factory=ProblemPrior)


@dataclass(frozen=True)
class CalibrateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    calibrate: Calibrate = setting("Pairs and draws.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow, or of the method.")


@dataclass(frozen=True)
class EvaluateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    evaluate: Evaluate = setting("How posteriors are judged.")
    observation: str = setting("Name of the observation.")
    fine_tuned: bool = setting("Whether the flow was trained on this observation.")
    prior: Prior = setting("Prior of the posterior.", factory=ProblemPrior)


@dataclass(frozen=True)
class FiguresSettings:
    problem: Problem = setting("Prior, operators and noise.")
    experiment: str = setting("Name of the experiment.")
    observations: list[str] = setting("Observations to draw.")
    methods: dict[str, str] = setting("Label of each method, in drawing order.")
    flows: list[str] = setting("Flows whose training curves are drawn.")
    seeds: list[int] = setting("Seeds of each method.")


@dataclass(frozen=True)
class ReportSettings:
    experiments: dict[str, Experiment] = setting("All experiments, as configured.")


def shard_count(experiment: Experiment, split: str) -> int:
    """Number of shards of a split: ceil(pairs / shard_size); of pairs that exist already as many as they say, of the training split."""
    if experiment.pairs is not None:
        return {"train": experiment.pairs.shards, "high_fidelity": 0}.get(split, 1)
    return -(-getattr(experiment.simulate, split) // experiment.simulate.shard_size)


def prior_of(experiment: Experiment, method: str) -> Prior:
    """The prior of a method's posterior: its own, or the experiment's."""
    return experiment.finetune[method].prior or experiment.prior


def settings_for(configuration: Configuration, stage: str, experiment: str, **names: Any) -> str:
    """The JSON text for one job of `stage`; `names` are the wildcards of its rule."""
    e = _with_one_worker(configuration.experiments[experiment])
    build = {
        "simulate": _simulate,
        "observe": lambda e, n, observation: ObserveSettings(e.problem, _observation(e, observation)),
        "check_operator": lambda e, n: CheckOperatorSettings(e.problem),
        "spectrum": lambda e, n: SpectrumSettings(n),
        "reference": lambda e, n, observation: ReferenceSettings(e.problem, e.reference, n, observation),
        "pretrain": lambda e, n, flow: PretrainSettings(_without_execution(e.flows[flow]), e.device, n, flow),
        "finetune": _finetune,
        "sample": lambda e, n, observation, method, seed: SampleSettings(
            e.problem, e.sample, int(seed), e.device, n, observation, method, prior_of(e, method)
        ),
        "calibrate": lambda e, n, flow: CalibrateSettings(e.problem, dataclasses.replace(e.calibrate, fine_tuned=0), n, flow),
        "calibrate_method": lambda e, n, method: CalibrateSettings(e.problem, dataclasses.replace(e.calibrate, fine_tuned=0), n, method),
        "evaluate": lambda e, n, observation, method, **_: EvaluateSettings(
            e.problem, e.evaluate, observation, e.finetune[method].tag_value != "none", prior_of(e, method)
        ),
        "figures": lambda e, n: FiguresSettings(
            e.problem, n, list(e.observations), {k: m.label or k for k, m in e.finetune.items()}, list(e.flows), e.seeds
        ),
    }[stage]
    return json.dumps(encode(build(e, experiment, **names)), sort_keys=True)


def settings_hash(text: str) -> str:
    """Short fingerprint of a settings text, for provenance."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def report_settings(configuration: Configuration) -> str:
    """The JSON text for the report: it shows the whole configuration, less what jobs ask of the machine."""
    experiments = {
        name: dataclasses.replace(_with_one_worker(e), resources=Resources(), flows={k: _with_one_device(f) for k, f in e.flows.items()})
        for name, e in configuration.experiments.items()
    }
    return json.dumps(encode(ReportSettings(experiments)), sort_keys=True)


def _simulate(e: Experiment, name: str, split: str, shard: str | int) -> SimulateSettings:
    if e.pairs is not None:
        return SimulateSettings(e.problem, split, int(shard), 0, e.pairs.seed, e.pairs if split == "train" else dataclasses.replace(e.pairs, shards=1))
    total, size, k = getattr(e.simulate, split), e.simulate.shard_size, int(shard)
    return SimulateSettings(e.problem, split, k, min(size, total - k * size), e.simulate.seed)


def replicates(experiment: Experiment, method: str) -> list[str]:
    """Names of the observations on which a method is fine-tuned to see whether its posteriors are calibrated.

    They come from the prior that the method assumes; so a prior that pflow cannot draw from has none.
    """
    entry = experiment.finetune[method]
    wanted = entry.tag_value != "none" and isinstance(prior_of(experiment, method), ProblemPrior)
    return [f"{REPLICATE}{k}" for k in range(experiment.calibrate.fine_tuned if wanted else 0)]


def _observation(e: Experiment, name: str) -> Observation:
    if name in e.observations:
        return e.observations[name]
    return Observation(seed=FIRST_REPLICATE_SEED + int(name.removeprefix(REPLICATE)))


def _finetune(e: Experiment, name: str, observation: str, method: str, seed: str | int) -> FinetuneSettings:
    entry = e.finetune[method]
    architecture = _without_pretraining(e.flows[entry.flow])
    prior, entry = prior_of(e, method), dataclasses.replace(entry, label="", prior=None)
    return FinetuneSettings(e.problem, architecture, entry, int(seed), e.device, name, observation, method, prior)


def with_workers(problem: Problem, count: int) -> Problem:
    """The problem whose operator is evaluated in so many processes, where it can be: an execution setting, on which no result depends."""
    return dataclasses.replace(problem, workers=count) if hasattr(problem, "workers") else problem


def _with_one_worker(e: Experiment) -> Experiment:
    """Their number reaches a job beside its settings, like that of threads, and invalidates nothing."""
    return dataclasses.replace(e, problem=with_workers(e.problem, 1))


def _with_one_device(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """The number of processes and nodes, like that of threads, invalidates nothing."""
    return dataclasses.replace(flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, nodes=1))


def _without_execution(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """How pretraining is executed and whether its code is tracked does not invalidate its weights."""
    return dataclasses.replace(flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, nodes=1, track_code=True))


def _without_pretraining(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """Pretraining settings reach fine-tuning through the weights alone."""
    return dataclasses.replace(flow, pretrain=Pretrain())
