"""The start of fine-tuning: the flow, its architecture, and the method that trains it.

Preconditioned methods start from the pretrained weights, the control starts from random ones. A
pretrained flow that an unusual observation has sent out of the domain of the operator or of the
prior has nothing to teach: such a method starts from random weights that cover the prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import (
    AutoSettings,
    MethodSettings,
    NoFinetuningSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.execution.seeds import generator_for
from pflow.finetuning.automatic import resolve, step_seconds
from pflow.finetuning.objectives import trains_given_weights, wrap
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.objectives.linear.applies import learns_linear
from pflow.problems.base import Problem

__all__ = ["Start", "load_start"]

LATENTS, PRIOR_DRAWS = 64, 256  # draws that random weights are initialised with


@dataclass(frozen=True)
class Start:
    """The start of training.

    Attributes:
        flow: the flow that the method trains.
        architecture: arguments of `build_flow` for it.
        method: the method; `objective: auto` is replaced by its choice.
        note: why the flow is not the pretrained one; empty where it is what the method asks for.
        predicted_seconds: of the training, where `objective: auto` predicted them.
    """

    flow: Flow
    architecture: dict[str, Any]
    method: MethodSettings
    note: str = ""
    predicted_seconds: float | None = None


def load_start(
    settings: FinetuneJobSettings,
    problem: Problem,
    posterior_problem: Problem,
    y: Tensor,
    architecture: dict[str, Any],
    pretrained: Flow | None,
    operator_facts: Mapping[str, Any] | None,
    choice_file: Path | None,
    say: Callable[[str], None],
) -> Start:
    """The flow with pretrained or random weights, under a Gaussian latent where the method has
    one.

    Arguments:
        settings: of the job.
        problem: with its own prior, which random weights are initialised with.
        posterior_problem: the same with the prior of the posterior.
        y: the observation, (1, *data), on the device to train on.
        architecture: of the flow.
        pretrained: the flow of stage 1; None for a start from random weights.
        operator_facts: content of operator.json, for `objective: auto`.
        choice_file: where the choice of `objective: auto` is kept.
        say: takes what `objective: auto` chose, in words.

    Raises:
        PflowError: pretrained weights or the cost of F are needed and not given.
    """
    method = settings.method
    summary = problem.summary(y)
    if method.start == "random":
        flow = _with_random_weights(settings, problem, y, architecture)
    elif pretrained is None:
        raise PflowError(
            f"method `{settings.name}` starts from pretrained weights: name them with --pretrained"
        )
    else:
        flow = pretrained
    size = math.prod(problem.model_shape)
    choice = resolve(
        method,
        operator_facts,
        lambda: step_seconds(flow, summary),
        choice_file,
        parameters=size,
        data=math.prod(problem.data_shape),
        linear=learns_linear(posterior_problem),
        say=say,
    )
    method, note = choice.method, ""
    trained = not isinstance(method, NoFinetuningSettings) and trains_given_weights(
        method, posterior_problem
    )
    if method.start == "pretrained" and trained:
        note = _departure(flow, posterior_problem, summary)
        if note:
            say(note)
            flow = _with_random_weights(settings, problem, y, architecture, cover_prior=True)
    torch.manual_seed(_weights_seed(settings))
    flow, architecture = wrap(flow, architecture, method, posterior_problem)
    return Start(flow, architecture, method, note, choice.predicted_seconds)


@torch.no_grad()
def _departure(flow: Flow, problem: Problem, summary: Tensor) -> str:
    """What to say of a flow most of whose draws lie outside the domain; empty for any other."""
    x = flow.sample(summary, LATENTS, torch.Generator().manual_seed(0))
    inside = x.flatten(1).isfinite().all(1)
    valid = problem.high_fidelity.valid
    if valid is not None:
        inside &= valid(x)
    inside &= problem.log_prior(x).isfinite()
    number_outside = LATENTS - int(inside.sum())
    if number_outside <= LATENTS // 2:
        return ""
    return (
        f"{number_outside} of {LATENTS} draws of the pretrained flow lay outside the domain of the"
        " operator or of the prior: the observation is unlike the training data, so the method"
        " started from the prior"
    )


@torch.no_grad()
def _with_random_weights(
    settings: FinetuneJobSettings,
    problem: Problem,
    y: Tensor,
    architecture: dict[str, Any],
    cover_prior: bool = False,
) -> Flow:
    """A flow with random weights. For methods that learn from kept evaluations, or where asked, it
    is wide enough to cover the prior; for path gradients it is initialised as in the paper.
    """
    torch.manual_seed(_weights_seed(settings))
    flow = build_flow(**architecture).to(y.device)
    prior_draws = None
    # Named in the call itself: code that keeps classes of settings in a variable depends on their
    # defaults, and a new one would rerun every method.
    learns_from_kept = isinstance(
        settings.method, (AutoSettings, ScoreReplaySettings, SurrogateSettings)
    )
    if cover_prior or learns_from_kept:
        random = generator_for(settings.seed, "initialise", "prior")
        prior_draws = problem.sample_prior(PRIOR_DRAWS, random).to(y)
    flow.initialise_inverse(
        LATENTS, problem.summary(y), generator_for(settings.seed, "initialise"), prior_draws
    )
    return flow


def _weights_seed(settings: FinetuneJobSettings) -> int:
    """Of torch's global generator, which weights are drawn from."""
    return int(generator_for(settings.seed, "weights").initial_seed() % 2**31)
