"""The configuration: every setting a user can write in `config.yaml`, its type, bounds, default and meaning.

One experiment is one inverse problem y = F(x) + eps with its data, flows and methods (DESIGN: the pipeline). The JSON
schema in `workflow/schemas` and the configuration reference are generated from this page. Imports neither torch nor
matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pflow.config_flows import Flow
from pflow.config_methods import Method
from pflow.config_problems import Problem
from pflow.config_trust import Calibrate, Evaluate, Reference
from pflow.decoding import decode, setting
from pflow.errors import PflowError

__all__ = ["STAGES", "Configuration", "Experiment", "load_configuration"]

STAGES = ("simulate", "observe", "check_operator", "reference", "pretrain", "calibrate", "finetune", "sample", "evaluate", "figures", "report")


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Simulate:
    """Low-fidelity pairs (x, y): x from the prior, y = F_low(x) + noise."""

    train: int = setting("Training pairs.", 5000, minimum=2)
    validation: int = setting("Pairs for the validation loss and early stopping.", 1000, minimum=2)
    test: int = setting("Held-out pairs for calibration checks and pictures.", 1000, minimum=1)
    high_fidelity: int = setting("Pairs made with the expensive operator, for pictures only (0: none).", 0, minimum=0)
    shard_size: int = setting("Pairs in one shard; one shard is one job.", 10000, minimum=1)
    seed: int = setting("Seed of all pairs.", 0, minimum=0)


@dataclass(frozen=True)
class Observation:
    """One simulated observation y_obs = F(x_true) + noise of the high-fidelity operator."""

    x_true: list[float] | None = setting("The true model, flattened; absent: a draw from the prior.", None)
    scale: float = setting("Multiplies a true model drawn from the prior; above 1 it lies outside the training data.", 1.0, above=0)
    seed: int = setting("Seed of the noise (and of x_true when it is drawn).", 0, minimum=0)


# --- what follows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Draws of each posterior; each is evaluated once with the expensive operator for its importance weight."""

    draws: int = setting("Draws in posterior.zarr.", 10000, minimum=100)
    score_draws: int = setting("Draws whose score is compared with the posterior's; each costs one evaluation (0: none).", 256, minimum=0)
    prior_draws: int = setting(
        "Draws of the prior that look for posterior mass which the flow has missed; each costs one forward (0: none).", 1000, minimum=0
    )


@dataclass(frozen=True)
class Resources:
    """What each training or sampling job of this experiment asks of the machine."""

    threads: int = setting("CPU threads of a training job.", 1, minimum=1)
    memory_mb: int = setting("Memory of a training job, in MB.", 2000, minimum=100)
    runtime_minutes: int = setting("Longest run of a training job, in minutes.", 60, minimum=1)
    gpu_model: str = setting("Model of GPU to ask a cluster for with `device: cuda`, such as a100; empty: any.", "")
    gres: str = setting("Where a site wants `--gres` instead of `--gpus`: such as gpu:a100:1; replaces `gpu_model`.", "")


@dataclass(frozen=True)
class Experiment:
    """One inverse problem from pairs to posterior."""

    problem: Problem = setting("Prior, operators and noise.")
    observations: dict[str, Observation] = setting("Observations by name; each gets its own posteriors.")
    flows: dict[str, Flow] = setting("Flows by name; each is pretrained once.")
    finetune: dict[str, Method] = setting("Methods by name; each runs once per observation and seed.")
    title: str = setting("Heading in the report.", "")
    question: str = setting("What is asked, in a sentence or two, for the report.", "")
    notes: list[str] = setting("Sentences that the report prints beside the results.", factory=list)
    simulate: Simulate = setting("Low-fidelity pairs.", factory=Simulate)
    reference: Reference = setting("Exact posterior draws, where the problem has them.", factory=Reference)
    seeds: list[int] = setting("Seeds of fine-tuning and sampling.", factory=lambda: [0, 1, 2])
    sample: Sample = setting("Posterior draws.", factory=Sample)
    calibrate: Calibrate = setting("Calibration of the pretrained flows.", factory=Calibrate)
    evaluate: Evaluate = setting("How posteriors are judged.", factory=Evaluate)
    device: Literal["cpu", "cuda", "auto"] = setting("Where flows train and sample; `cuda` asks the cluster for a GPU.", "cpu")
    resources: Resources = setting("CPU threads, memory and time of the training jobs.", factory=Resources)


@dataclass(frozen=True)
class Configuration:
    """The whole of `config.yaml`."""

    experiments: dict[str, Experiment] = setting("Experiments by name.")
    results: str = setting("Folder of all results.", "results")


def load_configuration(data: object) -> Configuration:
    """Decode and cross-check the configuration.

    Raises:
        PflowError: one line for each mistake.
    """
    if not isinstance(data, dict) or not data:
        raise PflowError("the configuration is empty: it needs the key `experiments` (see config.yaml of pflow)")
    configuration = decode(Configuration, data, "")
    mistakes = [m for name, e in configuration.experiments.items() for m in _inconsistencies(f"experiments.{name}", e)]
    if not configuration.experiments:
        mistakes.append("`experiments` (={}) must have at least one entry")
    mistakes += [
        f"`experiments.{name}` has the name of a stage, and `snakemake {name}` would be ambiguous: choose another name"
        for name in configuration.experiments
        if name in (*STAGES, "all")
    ]
    if mistakes:
        raise PflowError("\n".join(mistakes))
    return configuration


def _inconsistencies(where: str, experiment: Experiment) -> list[str]:
    mistakes = []
    for name, method in experiment.finetune.items():
        if method.flow not in experiment.flows:
            known = ", ".join(sorted(experiment.flows)) or "none"
            mistakes.append(
                f"`{where}.finetune.{name}.flow` (='{method.flow}') must name an entry of `{where}.flows`, "
                f"which has: {known}"
            )
        if getattr(method, "fit", "") == "match_scores" and method.covariance != "dense":
            mistakes.append(
                f"`{where}.finetune.{name}.covariance` (='{method.covariance}') must be dense for `fit: match_scores`: its closed form has no other; "
                "or set fit: reverse_kl"
            )
        key, points = _points_in_a_round(method)
        if points > getattr(method, "evaluations", points):
            mistakes.append(
                f"`{where}.finetune.{name}.evaluations` (={method.evaluations}) must be at least its `{key}` (={points}): "
                "a smaller budget has no step"
            )
    if len(set(experiment.seeds)) < len(experiment.seeds) or not experiment.seeds or min(experiment.seeds) < 0:
        mistakes.append(f"`{where}.seeds` (={experiment.seeds}) must be one or more different whole numbers from 0")
    for group in ("observations", "finetune"):
        if not getattr(experiment, group):
            mistakes.append(f"`{where}.{group}` must have at least one entry")
    size = math.prod(experiment.problem.model_shape)
    for name, observation in experiment.observations.items():
        if observation.x_true is not None and len(observation.x_true) != size:
            mistakes.append(
                f"`{where}.observations.{name}.x_true` (={observation.x_true}) must have {size} numbers, one for each unknown"
            )
    for name, flow in experiment.flows.items():
        if flow.pretrain.batch > experiment.simulate.train:
            mistakes.append(
                f"`{where}.flows.{name}.pretrain.batch` (={flow.pretrain.batch}) must be at most `{where}.simulate.train` "
                f"(={experiment.simulate.train})"
            )
        if flow.tag_value == "chint" and len(experiment.problem.model_shape) == 1 and (size & (size - 1) or size < 2):
            mistakes.append(f"`{where}.flows.{name}` (chint) needs a power of two of unknowns, and the problem has {size}: use coupling")
    return mistakes


def _points_in_a_round(method: Method) -> tuple[str, int]:
    """What a method evaluates at once: the key that says so, and how many points."""
    key = "draw" if hasattr(method, "draw") else "batch"
    return key, getattr(method, key, None) or 0
