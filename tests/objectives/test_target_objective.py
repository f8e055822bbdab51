"""What fine-tuning reads of every objective."""

from __future__ import annotations

import torch

from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.maximum_likelihood import MaximumLikelihood
from pflow.objectives.replay.score_replay import ScoreReplay
from pflow.objectives.reverse_kl import ReverseKL
from pflow.objectives.stopping import Stopping
from pflow.problems import build_problem


def rosenbrock():
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (2,), depth=2, hidden=8)
    return Target(build_problem("rosenbrock"), torch.tensor([[1.0, 2.0]])), flow


def test_a_flow_has_learnt_from_every_point_that_path_gradients_asked_for():
    target, flow = rosenbrock()
    objective, random = ReverseKL(target, Stopping(32), 16, "path"), torch.Generator()
    assert objective.points_learnt_from == 0
    objective.begin(flow, random)
    objective.loss(flow, random)
    assert objective.points_learnt_from == 16
    target.ledger.share = 0.25  # random subsets of the sources
    assert objective.evaluations_learnt_from == 4


def test_score_replay_has_learnt_from_a_round_when_it_is_finished():
    target, flow = rosenbrock()
    reused = Target(target.problem, target.y).evaluate(torch.randn(8, 2))
    objective = ScoreReplay(target, Stopping(32), 16, inner=2, reused_evaluations=reused)
    random, learnt = torch.Generator().manual_seed(0), []
    while not objective.begin(flow, random):
        learnt.append((objective.points_learnt_from, target.ledger.points))
        objective.loss(flow, random)
    assert list(dict.fromkeys(learnt)) == [(0, 0), (8, 16), (24, 32)]
    assert objective.points_learnt_from == 40


def test_an_objective_without_a_schedule_leaves_the_step_size_alone():
    target, _ = rosenbrock()
    path = ReverseKL(target, Stopping(32), 16, "path")
    assert path.learning_rate_factor == 1.0 and path.warning == ""
    assert MaximumLikelihood([0], 1, 1).learning_rate_factor == 1.0
