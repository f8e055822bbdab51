"""The configuration: every setting a user can write in `config.yaml`, its type, bounds, default and
meaning.

One experiment is one inverse problem y = F(x) + eps with its data, flows and methods (DESIGN: the
pipeline). The JSON schema in `workflow/schemas` and the configuration reference are generated from
this page. Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pflow.config.data import (
    ObservationSettings,
    PairsSettings,
    SimulateSettings,
    expand_observations,
)
from pflow.config.decoding import decode, setting
from pflow.config.flows import FlowSettings
from pflow.config.methods import MethodSettings, mistakes_of_methods
from pflow.config.priors import (
    FlowPriorSettings,
    GaussianPriorSettings,
    PriorSettings,
    ProblemPriorSettings,
)
from pflow.config.problems import ProblemSettings, has_operator
from pflow.config.trust import CalibrateSettings, EvaluateSettings, ReferenceSettings
from pflow.config.user_problems import PairsOnlyProblemSettings
from pflow.errors import PflowError

__all__ = ["Configuration", "ExperimentSettings", "load_configuration"]


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
        "Draws of the prior that look for posterior mass which the flow has missed; each costs one"
        " forward (0: none).",
        1000,
        minimum=0,
    )


@dataclass(frozen=True)
class ResourceSettings:
    """What each training or sampling job of this experiment asks of the machine."""

    threads: int = setting("CPU threads of a training job.", 1, minimum=1)
    memory_mb: int = setting("Memory of a training job, in MB.", 2000, minimum=100)
    runtime_minutes: int = setting("Longest run of a training job, in minutes.", 60, minimum=1)
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
    pairs: PairsSettings | None = setting(
        "Pairs that exist already; they take the place of `simulate`.", None
    )
    prior: PriorSettings = setting(
        "Prior of the high-fidelity posterior.", factory=ProblemPriorSettings
    )
    title: str = setting("Heading in the report.", "")
    question: str = setting("What is asked, in a sentence or two, for the report.", "")
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


def load_configuration(data: object, reserved: Collection[str] = ()) -> Configuration:
    """Decode and cross-check the configuration.

    Arguments:
        data: what YAML holds.
        reserved: names that no experiment may have, because `snakemake NAME` means another target.

    Raises:
        PflowError: one line for each mistake.
    """
    if not isinstance(data, dict) or not data:
        raise PflowError(
            "the configuration is empty: it needs the key `experiments` (see config.yaml of pflow)"
        )
    configuration = decode(Configuration, data, "")
    configuration = dataclasses.replace(
        configuration,
        experiments={
            name: _completed(f"experiments.{name}", e)
            for name, e in configuration.experiments.items()
        },
    )
    mistakes = [
        m
        for name, e in configuration.experiments.items()
        for m in _inconsistencies(f"experiments.{name}", e)
    ]
    if not configuration.experiments:
        mistakes.append("`experiments` (={}) must have at least one entry")
    mistakes += [
        f"`experiments.{name}` has the name of a stage, and `snakemake {name}` would be ambiguous:"
        " choose another name"
        for name in configuration.experiments
        if name in reserved
    ]
    if mistakes:
        raise PflowError("\n".join(mistakes))
    return configuration


def _completed(where: str, experiment: ExperimentSettings) -> ExperimentSettings:
    """The experiment with what its files say: the observations that a glob matches, the shapes of
    pairs without an operator.
    """
    e = dataclasses.replace(
        experiment,
        observations=expand_observations(experiment.observations, f"{where}.observations"),
    )
    if has_operator(e.problem):
        return e
    if e.pairs is None:
        raise PflowError(
            f"`{where}.problem` is missing: name a problem; or, to train on pairs (x, y) alone,"
            f" give their file in `{where}.pairs`"
        )
    _, *shapes = e.pairs.shapes(f"{where}.pairs")
    for key, found in zip(("model_shape", "data_shape"), shapes, strict=True):
        stated = getattr(e.problem, key)
        if stated is not None and tuple(stated) != found:
            raise PflowError(
                f"`{where}.problem.{key}` (={stated}) must be that of {e.pairs.file},"
                f" {list(found)}: correct it, or leave it out"
            )
    problem = dataclasses.replace(
        e.problem, model_shape=list(shapes[0]), data_shape=list(shapes[1])
    )
    reference = (
        dataclasses.replace(e.reference, kind="none")
        if e.reference.kind == "exact"
        else e.reference
    )
    return dataclasses.replace(e, problem=problem, reference=reference)


def _inconsistencies(where: str, experiment: ExperimentSettings) -> list[str]:
    mistakes = _of_pairs(where, experiment) if experiment.pairs is not None else []
    if not has_operator(experiment.problem):
        mistakes += _without_operator(where, experiment)
    for name, method in experiment.finetune.items():
        if method.flow not in experiment.flows:
            known = ", ".join(sorted(experiment.flows)) or "none"
            mistakes.append(
                f"`{where}.finetune.{name}.flow` (='{method.flow}') must name an entry of"
                f" `{where}.flows`, which has: {known}"
            )
    mistakes += mistakes_of_methods(f"{where}.finetune", experiment.finetune)
    if (
        len(set(experiment.seeds)) < len(experiment.seeds)
        or not experiment.seeds
        or min(experiment.seeds) < 0
    ):
        mistakes.append(
            f"`{where}.seeds` (={experiment.seeds}) must be one or more different whole numbers"
            " from 0"
        )
    mistakes += _of_priors(where, experiment)
    if experiment.calibrate.fine_tuned and not has_operator(experiment.problem):
        mistakes.append(
            f"`{where}.calibrate.fine_tuned` (={experiment.calibrate.fine_tuned}) must be 0 without"
            " an operator: replicate observations need one"
        )
    if experiment.calibrate.fine_tuned == 1:
        mistakes.append(
            f"`{where}.calibrate.fine_tuned` (=1) must be 0 or at least 2: one replicate has no"
            " distribution"
        )
    for group in ("observations", "finetune"):
        if not getattr(experiment, group):
            mistakes.append(f"`{where}.{group}` must have at least one entry")
    shape = experiment.problem.model_shape  # None: known in the jobs only
    size = None if shape is None else math.prod(shape)
    for name, observation in experiment.observations.items():
        if re.fullmatch(r"replicate-\d+", name):
            mistakes.append(
                f"`{where}.observations.{name}` has the name of a replicate observation of"
                " `calibrate.fine_tuned`: choose another name"
            )
        if observation.x_true is not None and size is not None and len(observation.x_true) != size:
            mistakes.append(
                f"`{where}.observations.{name}.x_true` (={observation.x_true}) must have {size}"
                " numbers, one for each unknown"
            )
    for name, flow in experiment.flows.items():
        if experiment.pairs is None and flow.pretrain.batch > experiment.simulate.train:
            mistakes.append(
                f"`{where}.flows.{name}.pretrain.batch` (={flow.pretrain.batch}) must be at most"
                f" `{where}.simulate.train` (={experiment.simulate.train})"
            )
        if (
            flow.tag_value == "chint"
            and shape is not None
            and len(shape) == 1
            and (size & (size - 1) or size < 2)
        ):
            mistakes.append(
                f"`{where}.flows.{name}` (chint) needs a power of two of unknowns, and the problem"
                f" has {size}: use coupling"
            )
    return mistakes


def _of_pairs(where: str, experiment: ExperimentSettings) -> list[str]:
    mistakes = list(experiment.pairs.mistakes(f"{where}.pairs"))
    if experiment.simulate != SimulateSettings():
        mistakes.append(
            f"`{where}.simulate` and `{where}.pairs` both say where the pairs come from: remove one"
            " of the two"
        )
    return mistakes


def _without_operator(where: str, experiment: ExperimentSettings) -> list[str]:
    """What needs F cannot be asked of pairs alone."""
    way_out = f"set `objective: none`, or give a `{where}.problem` with an operator"
    mistakes = [
        f"`{where}.finetune.{name}.objective` (={method.tag_value}) evaluates the operator, and an"
        f" experiment of pairs alone has none: {way_out}"
        for name, method in experiment.finetune.items()
        if method.tag_value != "none"
    ]
    for name, observation in experiment.observations.items():
        if observation.file is None:
            mistakes.append(
                f"`{where}.observations.{name}` would be simulated with the operator, and an"
                " experiment of pairs alone has none: name a `file` with measured data"
            )
    if experiment.reference.kind == "nuts":
        mistakes.append(
            f"`{where}.reference.kind` (=nuts) evaluates the operator, and an experiment of pairs"
            " alone has none: set it to none"
        )
    return mistakes


def _of_priors(where: str, experiment: ExperimentSettings) -> list[str]:
    """Priors that are flows of their own; flows that fine-tuning starts from."""
    mistakes = []
    unconditional = [
        name for name, flow in experiment.flows.items() if not getattr(flow, "conditional", True)
    ]
    named = {
        f"{where}.finetune.{name}.prior": method.prior
        for name, method in experiment.finetune.items()
        if method.prior is not None
    }
    for key, prior in {f"{where}.prior": experiment.prior, **named}.items():
        if isinstance(prior, FlowPriorSettings) and prior.flow not in unconditional:
            known = ", ".join(unconditional) or "none yet"
            mistakes.append(
                f"`{key}.flow` (='{prior.flow}') must name an entry of `{where}.flows` with"
                f" `conditional: false`, which are: {known}"
            )
        shape = experiment.problem.model_shape
        if isinstance(prior, GaussianPriorSettings) and shape is not None and len(shape) != 3:
            mistakes.append(
                f"`{key}` (gaussian) is for images, and the problem's models have the shape"
                f" {tuple(shape)}: choose another prior"
            )
    mistakes += [
        f"`{where}.finetune.{name}.flow` (='{method.flow}') must see the data, and has"
        " `conditional: false`: name another flow"
        for name, method in experiment.finetune.items()
        if method.flow in unconditional
    ]
    return mistakes
