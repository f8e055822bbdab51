"""The flow that fine-tuning returns is described as it is."""

from __future__ import annotations

import pytest
import torch

from pflow.config.methods import SurrogateSettings
from pflow.finetuning.fit import FitResult
from pflow.finetuning.objectives import wrap
from pflow.finetuning.result import correct
from pflow.finetuning.start import Start
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.training import TrainingState

METHOD = SurrogateSettings(flow="coupling", start="pretrained", evaluations=16)


@pytest.mark.parametrize("awake", [False, True])
def test_splines_are_named_only_where_they_took_part(awake):
    problem = build_problem("rosenbrock")
    y = problem.simulate(1, torch.Generator().manual_seed(0), "high")[1]
    given = {"name": "coupling", "model_shape": [2], "data_shape": [2], "depth": 2, "hidden": 8}
    flow, architecture = wrap(build_flow(**given), given, METHOD, problem)
    if awake:
        flow.wake()
    start, fitted = Start(flow, architecture, METHOD), FitResult(flow, TrainingState())
    result = correct(start, fitted, Target(problem, y), None, None, torch.Generator())
    assert result.architecture["name"] == ("spline_latent" if awake else "coupling")
    stored = build_flow(**result.architecture)
    stored.load_state_dict(result.flow.state_dict())
    draws = [
        f.sample_with_log_prob(y, 50, torch.Generator().manual_seed(1)) for f in (flow, stored)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*draws, strict=True))
