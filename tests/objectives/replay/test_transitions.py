"""A round of score replay as transitions of an explicit state."""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.best_state import weights_of
from pflow.objectives.replay.inner_loop import InnerLoop
from pflow.objectives.replay.state import ReplaySetup, ReplayState
from pflow.objectives.replay.transitions import close_round, evaluate_points, open_round
from pflow.objectives.stopping import Stopping
from pflow.problems import build_problem


@pytest.fixture
def setup() -> ReplaySetup:
    target = Target(build_problem("gaussian", side=2), torch.zeros(1, 4))
    return ReplaySetup(target, Stopping(64), steps=5)


@pytest.fixture
def flow():
    torch.manual_seed(0)
    flow = build_flow("coupling", (4,), (4,), depth=2, hidden=8)
    flow.initialise_inverse(8, torch.zeros(1, 4))
    return flow


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def moved(weights: dict) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        name: value + torch.randn(value.shape, generator=generator)
        for name, value in weights.items()
    }


def test_transitions_change_no_state(setup, flow, generator):
    start = ReplayState()
    evaluated = evaluate_points(setup, start, flow, generator)
    assert start.evaluated is None and start.best.weights is None
    assert len(evaluated.evaluated) == evaluated.asked == 16
    round = open_round(setup, evaluated, flow, generator)
    closed = close_round(
        setup, evaluated, round, InnerLoop(round.opening, weights_of(flow), 1.0), flow
    )
    assert (evaluated.rounds, closed.rounds) == (0, 1)
    assert (evaluated.points_of_finished_rounds, closed.points_of_finished_rounds) == (0, 16)
    assert evaluated.metric is None and closed.metric is round.model.metric
    second = evaluate_points(setup, closed, flow, generator)
    assert len(closed.evaluated) == 16 and len(second.evaluated) == 32


def test_a_round_that_makes_the_flow_worse_is_undone(setup, flow, generator):
    state = evaluate_points(setup, ReplayState(), flow, generator)
    round = open_round(setup, state, flow, generator)
    start = weights_of(flow)
    far = moved(start)
    flow.load_state_dict(far)
    closed = close_round(setup, state, round, InnerLoop(round.opening, far, 1.0), flow)
    assert same(weights_of(flow), start)
    assert closed.undone == 1 and closed.step_size == pytest.approx(1 / 3)


def test_draws_of_clearly_lower_elbo_bring_the_best_weights_back(setup, flow, generator):
    state = evaluate_points(setup, ReplayState(), flow, generator)
    best = weights_of(flow)
    flow.load_state_dict(moved(best))
    worse = evaluate_points(setup, state, flow, generator)
    assert same(weights_of(flow), best)
    assert (worse.rejected, worse.reach) == (1, state.reach / 2)
    assert len(worse.evaluated) == 32  # the points are kept


def test_a_saved_state_is_the_same_value(setup, flow, generator):
    state = evaluate_points(setup, ReplayState(), flow, generator)
    round = open_round(setup, state, flow, generator)
    state = close_round(setup, state, round, InnerLoop(round.opening, weights_of(flow), 1.0), flow)
    again = ReplayState.from_state_dict(state.state_dict())
    points, scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)), []
    for value in (state, again):
        random = torch.Generator().manual_seed(5)
        value = evaluate_points(setup, value, flow, random)
        scores.append(open_round(setup, value, flow, random).model.score(points))
    assert torch.equal(*scores)
    assert again.best.elbo == state.best.elbo and again.modes.missing == state.modes.missing
