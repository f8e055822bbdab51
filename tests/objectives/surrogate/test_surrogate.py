"""The whole objective: how near with how few evaluations, and what a wrong low fidelity costs."""

from __future__ import annotations

import io
import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.execution.progress import Progress
from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.exploration import Exploration
from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.objective import Surrogate
from pflow.operators import Operator
from pflow.operators.workers import Workers
from pflow.problems import build_problem
from pflow.storage.checkpoint import Checkpoint
from pflow.training import train
from tests.support.fine_tuning import NoMonitor
from tests.support.surrogate import OPTIMISER, flow_for, observation, run_surrogate

LOGNORMAL = {"name": "lognormal", "side": 5, "strength": 1.0}


def fine_tune(problem, y, evaluations, checkpoint, gradient=True, **settings):
    flow, target = flow_for(problem), Target(problem, y, gradient=gradient)
    objective = Surrogate(target, Stopping(evaluations), **settings)
    state = run_surrogate(flow, objective, checkpoint)
    assert target.ledger.evaluations == evaluations
    return flow, objective, state


@torch.no_grad()
def divergence(flow, problem, y):
    x, log_q = flow.sample_with_log_prob(y, 4000, torch.Generator().manual_seed(5))
    return float((log_q - problem.exact_posterior(y).log_density(x)).mean())


def test_25_parameters_exactly_in_48_evaluations(tmp_path):
    """A linear operator: as many evaluations as parameters and data determine the posterior."""
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    flow, objective, state = fine_tune(problem, y, 48, tmp_path / "state")
    assert divergence(flow, problem, y) < 1e-3
    assert objective.outcome["operator_model"].endswith("affine") and state.skipped == 0


def test_half_of_them_are_half_way(tmp_path):
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    assert divergence(fine_tune(problem, y, 16, tmp_path / "state")[0], problem, y) < 2.0


def test_without_low_fidelity_it_takes_more(tmp_path):
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    with_low = fine_tune(problem, y, 12, tmp_path / "a")[0]
    without = fine_tune(problem, y, 12, tmp_path / "b", low_fidelity=False)[0]
    assert divergence(with_low, problem, y) < divergence(without, problem, y)


class Wrong(Operator):
    """Another physics: the low fidelity turned round, far off, NaN in part of the space."""

    def __init__(self, operator, factor, offset, undefined_above=math.inf):
        super().__init__(operator.model_shape, operator.data_shape)
        self.operator, self.factor, self.offset = operator, factor, offset
        self.undefined_above = undefined_above

    def forward(self, x):
        y = self.factor * self.operator.forward(x) + self.offset
        return torch.where(x[:, :1] > self.undefined_above, torch.nan, y)


@pytest.mark.parametrize(("factor", "offset"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 10.0), (5.0, 0.0)])
def test_a_wrong_low_fidelity_costs_evaluations_and_no_accuracy(factor, offset, tmp_path):
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    problem.low_fidelity = Wrong(problem.low_fidelity, factor, offset)
    problem.low_fidelity.linear = offset == 0.0
    flow, _, _ = fine_tune(problem, y, 64, tmp_path / "state")
    assert divergence(flow, problem, y) < 0.3


def test_a_model_that_mispredicts_leaves_the_gaussian_around_the_mode(tmp_path, monkeypatch):
    """exp(3.5 x), and a Gaussian that lies where F explodes, thousands of nats away."""

    def conclude(exploration, generator):
        frame = exploration.frame
        exploration.frame = PosteriorGaussian(frame.mean + 3, frame.factor)

    monkeypatch.setattr(Exploration, "conclude", conclude)
    problem = build_problem("lognormal", side=6, strength=3.5)
    y = observation(problem, seed=2)
    flow, objective, _ = fine_tune(problem, y, 48, tmp_path / "state")
    found = objective.outcome
    assert found["around_mode_elbo_nats"] > found["gaussian_elbo_nats"] + 1000
    x = flow.sample(y, 200, torch.Generator().manual_seed(4))
    log_density = Target(problem, y).evaluate(x).log_density
    assert log_density.median() > objective.exploration.evaluated.log_density.max() - 200


def test_a_check_without_a_draw_for_each_candidate_is_left_out(tmp_path, monkeypatch):
    """Where the winner turned from Gaussian to nonlinear in the last round, nothing was kept."""
    monkeypatch.setattr(Surrogate, "_kept", lambda self: 1)
    problem = build_problem("lognormal", side=5, strength=1.0)
    y = observation(problem)
    flow, target = flow_for(problem), Target(problem, y)
    objective = Surrogate(target, Stopping(41))
    run_surrogate(flow, objective, tmp_path / "state")
    assert target.ledger.points == 40 and "flow_elbo_nats" not in objective.outcome


def knows(problem, y, evaluations, low_fidelity):
    """The ELBO of the model's Gaussian, over 400 evaluations, and the model that won."""
    objective = Surrogate(Target(problem, y), Stopping(evaluations), low_fidelity=low_fidelity)
    generator = torch.Generator().manual_seed(0)
    while objective.target.ledger.points < evaluations:
        left = evaluations - objective.target.ledger.points
        objective.exploration.advance(left, generator)
    objective.exploration.conclude(generator)
    frame = objective.exploration.frame
    u = torch.randn(400, len(frame.mean), generator=generator, dtype=torch.float64)
    x = objective.coordinates.model(frame.place(u)).to(y)
    log_density = Target(problem, y).evaluate(x).log_density.double()
    volume = frame.factor.diagonal().log().sum()
    return float((log_density + 0.5 * u.square().sum(1)).mean() - volume), objective.exploration


@pytest.mark.slow
def test_a_poor_low_fidelity_is_found_out_before_there_are_as_many_evaluations_as_parameters():
    """Straight rays: what knows them is as near as what does not."""
    problem = build_problem("traveltime", side=8, sources=4, receivers=8)
    y = observation(problem)
    with_low, exploration = knows(problem, y, 40, low_fidelity=True)
    without, _ = knows(problem, y, 40, low_fidelity=False)
    assert exploration.kind.startswith("F alone") and abs(with_low - without) < 1


def test_points_where_f_is_not_defined_are_left_out(tmp_path):
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    middle = float(problem.exact_posterior(y).mean[0])
    problem.high_fidelity = Wrong(problem.high_fidelity, 1.0, 0.0, undefined_above=middle)
    _, objective, _ = fine_tune(problem, y, 48, tmp_path / "state")
    assert 0 < objective.exploration.known < 48 == objective.target.ledger.points


def test_evaluations_in_worker_processes_teach_the_same():
    learnt = []
    for count in (0, 2):
        problem = build_problem("gaussian", side=5)
        y = observation(problem)
        if count:
            problem.high_fidelity = Workers(problem.high_fidelity, count)
        objective = Surrogate(Target(problem, y), Stopping(24))
        while objective.target.ledger.points < 24:
            left = 24 - objective.target.ledger.points
            objective.exploration.advance(left, torch.Generator().manual_seed(0))
        learnt.append(objective.exploration)
    problem.high_fidelity.close()
    apart = learnt[0].frame.whiten(learnt[1].frame.mean)  # rounding of float32 chooses other draws
    assert len(learnt[1].evaluated) == 24 and apart.abs().max() < 0.1


def test_f_that_is_defined_nowhere_is_told(tmp_path):
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    problem.high_fidelity = Wrong(problem.high_fidelity, math.nan, 0.0)
    with pytest.raises(PflowError, match="restrict the prior"):
        fine_tune(problem, y, 12, tmp_path / "state")


def test_too_many_parameters_are_refused():
    problem = build_problem("seismic", height=128, width=64)
    with pytest.raises(PflowError, match="at most 4096"):
        Surrogate(Target(problem, torch.zeros(1, *problem.data_shape)), Stopping(10))


@pytest.mark.slow
def test_a_nonlinear_operator_needs_the_flow(tmp_path):
    """Against NUTS on the same posterior; the Gaussian alone is further away."""
    problem = build_problem("lognormal", side=5, strength=1.0)
    y = observation(problem)
    _, objective, _ = fine_tune(problem, y, 160, tmp_path / "state")
    outcome = objective.outcome
    assert outcome["operator_model"].endswith("affine and additive")
    assert outcome["flow_elbo_nats"] > outcome["gaussian_elbo_nats"]
    assert outcome["model_error_nats"] < 0.3 and objective.warning == ""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("rosenbrock", 0.01), ("bimodal", 0.05)])
def test_two_parameters_with_24_evaluations(name, limit, tmp_path):
    """Both modes of the second: without one of them the divergence is infinite or log 2 and
    more."""
    problem = build_problem(name)
    y = torch.tensor([[1.3, 0.2]]) if name == "bimodal" else observation(problem)
    flow, _, _ = fine_tune(problem, y, 24, tmp_path / "state")
    assert divergence(flow, problem, y) < limit


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("settings", [LOGNORMAL, {"name": "bimodal"}], ids=["many", "few"])
def test_an_interrupted_run_ends_in_the_same_weights(settings, tmp_path, monkeypatch):
    """Stopped while it explores, and while it trains; in few parameters with splines by then."""
    for name in ("CYCLE", "SPLINE_CYCLE"):
        monkeypatch.setattr(f"pflow.objectives.surrogate.ratio_training.{name}", 50)
    monkeypatch.setattr("pflow.objectives.surrogate.objective.steps_of", lambda *_: 200)
    problem = build_problem(**settings)
    y = observation(problem)
    whole, _, state = fine_tune(problem, y, 48, tmp_path / "whole")
    assert state.step > 100
    for stop in (5, 160):
        flow, target = flow_for(problem), Target(problem, y)
        objective = Surrogate(target, Stopping(48))
        checkpoint = Checkpoint(tmp_path / f"cut-{stop}", "test")
        checkpoint.interval = 0.0
        saves, save = [], checkpoint.save

        def stopping(content, saves=saves, save=save, stop=stop):
            save(content)
            saves.append(1)
            if len(saves) == stop:
                raise KeyboardInterrupt

        checkpoint.save = stopping
        run = {"generator": torch.Generator().manual_seed(3), "monitor": NoMonitor()}
        run |= {"checkpoint": checkpoint, "progress": Progress("", io.StringIO())}
        with pytest.raises(KeyboardInterrupt):
            train(flow, objective, OPTIMISER, **run)
        flow, target = flow_for(problem), Target(problem, y)
        checkpoint.save = save
        run["generator"] = torch.Generator().manual_seed(99)
        train(flow, Surrogate(target, Stopping(48)), OPTIMISER, **run)
        for name, weight in whole.state_dict().items():
            assert torch.equal(weight, flow.state_dict()[name]), (stop, name)
