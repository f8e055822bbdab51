"""Checks of settings against each other: every contradiction within an experiment.

Each function takes the experiment and `where`, its full key for messages, and returns one line for
each mistake.
"""

from __future__ import annotations

import math
import re

from pflow.config.data import SimulateSettings
from pflow.config.experiment import ExperimentSettings
from pflow.config.flow_pairs import mistakes_of_flow_pairs
from pflow.config.method_checks import mistakes_of_methods
from pflow.config.methods import NoFinetuningSettings
from pflow.config.priors import FlowPriorSettings, GaussianPriorSettings
from pflow.config.problems import has_operator
from pflow.config.runs import mistakes_of_runs

__all__ = ["mistakes_of_experiment"]

CALIBRATION_PAIRS = 50  # that `calibrate` needs at least


def mistakes_of_experiment(where: str, experiment: ExperimentSettings) -> list[str]:
    """All contradictions in an experiment whose settings are valid one by one."""
    return [
        *_of_pairs(where, experiment),
        *_without_operator(where, experiment),
        *_of_flow_names(where, experiment),
        *mistakes_of_methods(f"{where}.finetune", experiment.finetune),
        *mistakes_of_runs(where, experiment),
        *_of_priors(where, experiment),
        *_of_calibration(where, experiment),
        *_of_observations(where, experiment),
        *_of_flows(where, experiment),
        *mistakes_of_flow_pairs(where, experiment),
    ]


def _of_pairs(where: str, experiment: ExperimentSettings) -> list[str]:
    if experiment.pairs is None:
        return []
    mistakes = list(experiment.pairs.mistakes(f"{where}.pairs"))
    if experiment.simulate != SimulateSettings():
        mistakes.append(
            f"`{where}.simulate` and `{where}.pairs` both say where the pairs come from: remove one"
            " of the two"
        )
    return mistakes


def _without_operator(where: str, experiment: ExperimentSettings) -> list[str]:
    """Settings that need F, in an experiment of pairs alone."""
    if has_operator(experiment.problem):
        return []
    way_out = f"set `objective: none`, or give a `{where}.problem` with an operator"
    mistakes = [
        f"`{where}.finetune.{name}.objective` (={method.tag_value}) evaluates the operator, and an"
        f" experiment of pairs alone has none: {way_out}"
        for name, method in experiment.finetune.items()
        if method.tag_value != "none"
    ]
    mistakes += [
        f"`{where}.observations.{name}` would be simulated with the operator, and an experiment of"
        " pairs alone has none: name a `file` with measured data"
        for name, observation in experiment.observations.items()
        if observation.file is None
    ]
    if experiment.reference.kind == "nuts":
        mistakes.append(
            f"`{where}.reference.kind` (=nuts) evaluates the operator, and an experiment of pairs"
            " alone has none: set it to none"
        )
    return mistakes


def _of_flow_names(where: str, experiment: ExperimentSettings) -> list[str]:
    flows = ", ".join(sorted(experiment.flows)) or "none"
    return [
        f"`{where}.finetune.{name}.flow` (='{method.flow}') must name an entry of `{where}.flows`,"
        f" which has: {flows}"
        for name, method in experiment.finetune.items()
        if method.flow not in experiment.flows
    ]


def _of_priors(where: str, experiment: ExperimentSettings) -> list[str]:
    """Flows used as priors, and flows that fine-tuning starts from."""
    mistakes = []
    unconditional = [
        name for name, flow in experiment.flows.items() if not getattr(flow, "conditional", True)
    ]
    of_methods = {
        f"{where}.finetune.{name}.prior": method.prior
        for name, method in experiment.finetune.items()
        if method.prior is not None
    }
    for key, prior in {f"{where}.prior": experiment.prior, **of_methods}.items():
        if isinstance(prior, FlowPriorSettings) and prior.flow not in unconditional:
            choices = ", ".join(unconditional) or "none yet"
            mistakes.append(
                f"`{key}.flow` (='{prior.flow}') must name an entry of `{where}.flows` with"
                f" `conditional: false`, which are: {choices}"
            )
        shape = experiment.problem.model_shape
        if isinstance(prior, GaussianPriorSettings) and shape is not None and len(shape) != 3:
            mistakes.append(
                f"`{key}` (gaussian) is for images, and the problem's models have the shape"
                f" {tuple(shape)}: choose another prior"
            )
    mistakes += [
        f"`{where}.finetune.{name}.flow` (='{method.flow}') must see the data, because nothing is"
        " fitted to the observation (`objective: none`), and has `conditional: false`: name"
        " another flow"
        for name, method in experiment.finetune.items()
        if method.flow in unconditional and isinstance(method, NoFinetuningSettings)
    ]
    return mistakes


def _of_calibration(where: str, experiment: ExperimentSettings) -> list[str]:
    replicates, mistakes = experiment.calibrate.fine_tuned, []
    if replicates and not has_operator(experiment.problem):
        mistakes.append(
            f"`{where}.calibrate.fine_tuned` (={replicates}) must be 0 without an operator:"
            " replicate observations need one"
        )
    if replicates == 1:
        mistakes.append(
            f"`{where}.calibrate.fine_tuned` (=1) must be 0 or at least 2: one replicate has no"
            " distribution"
        )
    learnt = [
        flow
        for flow in experiment.flows.values()
        if flow.pairs == "low_fidelity" and getattr(flow, "conditional", True)
    ]
    if learnt and experiment.pairs is None and experiment.simulate.test < CALIBRATION_PAIRS:
        mistakes.append(
            f"`{where}.simulate.test` (={experiment.simulate.test}) must be at least"
            f" {CALIBRATION_PAIRS}: the calibration of a flow needs as many held-out pairs"
        )
    return mistakes


def _of_observations(where: str, experiment: ExperimentSettings) -> list[str]:
    mistakes = [
        f"`{where}.{group}` must have at least one entry"
        for group in ("observations", "finetune")
        if not getattr(experiment, group)
    ]
    size = _model_size(experiment)
    for name, observation in experiment.observations.items():
        if re.fullmatch(r"replicate-\d+", name):
            mistakes.append(
                f"`{where}.observations.{name}` has the name of a replicate observation of"
                " `calibrate.fine_tuned`: choose another name"
            )
        if observation.x_true is not None and size is not None and len(observation.x_true) != size:
            mistakes.append(
                f"`{where}.observations.{name}.x_true` (={observation.x_true}) must have {size}"
                " numbers, one for each parameter"
            )
    return mistakes


def _of_flows(where: str, experiment: ExperimentSettings) -> list[str]:
    mistakes = []
    shape, size = experiment.problem.model_shape, _model_size(experiment)
    vector = shape is not None and len(shape) == 1
    for name, flow in experiment.flows.items():
        simulated = experiment.pairs is None and flow.pairs == "low_fidelity"
        if simulated and flow.pretrain.batch > experiment.simulate.train:
            mistakes.append(
                f"`{where}.flows.{name}.pretrain.batch` (={flow.pretrain.batch}) must be at most"
                f" `{where}.simulate.train` (={experiment.simulate.train})"
            )
        unfit = "models that are vectors" if shape is not None and not vector else ""
        unfit = unfit or ("flows with data" if not getattr(flow, "conditional", True) else "")
        if flow.data_transform == "log" and unfit:
            mistakes.append(
                f"`{where}.flows.{name}.data_transform` (=log) is for {unfit}: leave it out"
            )
        of_two = size is not None and size > 1 and not size & (size - 1)
        if flow.tag_value == "chint" and vector and not of_two:
            mistakes.append(
                f"`{where}.flows.{name}` (chint) needs a power of two parameters, and the problem"
                f" has {size}: use coupling"
            )
    return mistakes


def _model_size(experiment: ExperimentSettings) -> int | None:
    """Number of parameters; None if only the jobs can determine it."""
    shape = experiment.problem.model_shape
    return None if shape is None else math.prod(shape)
