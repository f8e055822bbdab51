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
from pflow.config_methods import Method
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
    "report_settings",
    "settings_for",
    "settings_hash",
    "shard_count",
]

Split = Literal["train", "validation", "test", "high_fidelity"]
Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class SimulateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    split: Split = setting("train, validation and test use the low-fidelity operator.")
    shard: int = setting("Index of the shard.", minimum=0)
    pairs: int = setting("Pairs in this shard.", minimum=1)
    seed: int = setting("Seed of all pairs.", minimum=0)


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


@dataclass(frozen=True)
class SampleSettings:
    problem: Problem = setting("Prior, operators and noise.")
    sample: Sample = setting("Numbers of draws.")
    seed: int = setting("Seed of the draws.", minimum=0)
    device: Device = setting("Where to sample.")
    experiment: str = setting("Name of the experiment.")
    observation: str = setting("Name of the observation.")
    method: str = setting("Name of the method.")


@dataclass(frozen=True)
class CalibrateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    calibrate: Calibrate = setting("Pairs and draws.")
    experiment: str = setting("Name of the experiment.")
    name: str = setting("Name of the flow.")


@dataclass(frozen=True)
class EvaluateSettings:
    problem: Problem = setting("Prior, operators and noise.")
    evaluate: Evaluate = setting("How posteriors are judged.")
    observation: str = setting("Name of the observation.")
    fine_tuned: bool = setting("Whether the flow was trained on this observation.")


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
    """Number of shards of a split: ceil(pairs / shard_size)."""
    return -(-getattr(experiment.simulate, split) // experiment.simulate.shard_size)


def settings_for(configuration: Configuration, stage: str, experiment: str, **names: Any) -> str:
    """The JSON text for one job of `stage`; `names` are the wildcards of its rule."""
    e = configuration.experiments[experiment]
    build = {
        "simulate": _simulate,
        "observe": lambda e, n, observation: ObserveSettings(e.problem, e.observations[observation]),
        "check_operator": lambda e, n: CheckOperatorSettings(e.problem),
        "reference": lambda e, n, observation: ReferenceSettings(e.problem, e.reference, n, observation),
        "pretrain": lambda e, n, flow: PretrainSettings(_without_execution(e.flows[flow]), e.device, n, flow),
        "finetune": _finetune,
        "sample": lambda e, n, observation, method, seed: SampleSettings(
            e.problem, e.sample, int(seed), e.device, n, observation, method
        ),
        "calibrate": lambda e, n, flow: CalibrateSettings(e.problem, e.calibrate, n, flow),
        "evaluate": lambda e, n, observation, method, **_: EvaluateSettings(
            e.problem, e.evaluate, observation, e.finetune[method].tag_value != "none"
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
        name: dataclasses.replace(e, resources=Resources(), flows={k: _with_one_device(f) for k, f in e.flows.items()})
        for name, e in configuration.experiments.items()
    }
    return json.dumps(encode(ReportSettings(experiments)), sort_keys=True)


def _simulate(e: Experiment, name: str, split: str, shard: str | int) -> SimulateSettings:
    total, size, k = getattr(e.simulate, split), e.simulate.shard_size, int(shard)
    return SimulateSettings(e.problem, split, k, min(size, total - k * size), e.simulate.seed)


def _finetune(e: Experiment, name: str, observation: str, method: str, seed: str | int) -> FinetuneSettings:
    entry = e.finetune[method]
    architecture = _without_pretraining(e.flows[entry.flow])
    return FinetuneSettings(e.problem, architecture, dataclasses.replace(entry, label=""), int(seed), e.device, name, observation, method)


def _with_one_device(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """The number of processes, like that of threads, invalidates nothing."""
    return dataclasses.replace(flow, pretrain=dataclasses.replace(flow.pretrain, devices=1))


def _without_execution(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """How pretraining is executed and whether its code is tracked does not invalidate its weights."""
    return dataclasses.replace(flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, track_code=True))


def _without_pretraining(flow: CouplingFlow | ConditionalHintFlow) -> CouplingFlow | ConditionalHintFlow:
    """Pretraining settings reach fine-tuning through the weights alone."""
    return dataclasses.replace(flow, pretrain=Pretrain())
