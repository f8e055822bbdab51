"""Runs of the objective with a model of F, small enough for tests."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from torch import Tensor

from pflow.execution.progress import Progress
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.flows.spline_latent import SplineLatent
from pflow.objectives.surrogate.objective import Surrogate
from pflow.problems.base import Problem
from pflow.storage.checkpoint import Checkpoint
from pflow.training import Optimiser, TrainingState, train
from tests.support.fine_tuning import NoMonitor

__all__ = ["OPTIMISER", "flow_for", "observation", "run_surrogate"]

OPTIMISER = Optimiser(2e-3, clip=100.0, betas=(0.9, 0.99))


def flow_for(problem: Problem, seed: int = 0) -> Flow:
    """A small coupling flow that covers the prior; on an affine layer in many parameters, with
    splines in its latent in few.
    """
    torch.manual_seed(seed)
    size = problem.model_shape
    base = {"name": "coupling", "model_shape": size, "data_shape": problem.summary_shape}
    base |= {"depth": 2, "hidden": 16}
    if math.prod(size) > 16:
        return build_flow("affine", size, problem.summary_shape, base=base)
    flow = build_flow(**base)
    flow.initialise_inverse(
        64,
        torch.zeros(1, *problem.summary_shape),
        torch.Generator().manual_seed(1),
        problem.sample_prior(256, torch.Generator().manual_seed(2)),
    )
    return SplineLatent(size, problem.summary_shape, flow)


def observation(problem: Problem, seed: int = 1) -> Tensor:
    """Data of high fidelity, (1, *data)."""
    return problem.simulate(1, torch.Generator().manual_seed(seed), "high")[1]


def run_surrogate(flow: Flow, objective: Surrogate, checkpoint: Path) -> TrainingState:
    """The whole run, in the loop of the stage."""
    return train(
        flow,
        objective,
        OPTIMISER,
        generator=torch.Generator().manual_seed(3),
        monitor=NoMonitor(),
        checkpoint=Checkpoint(checkpoint, "test"),
        progress=Progress("", io.StringIO()),
    )
