"""Recalled evaluations are asked again now and then, so that what no fingerprint sees is seen."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.storage.evaluations import EvaluationStore

Y = torch.tensor([[1.0, 2.0]])
FIELDS = ("log_likelihood", "log_prior", "score", "valid", "prediction")


class Changeable:
    """The Rosenbrock problem, whose operator reads a number that is in no fingerprint."""

    def __init__(self, factor: float = 1.0, rounding: float = 0.0, gradient: float = 1.0):
        self.problem, self.asked = build_problem("rosenbrock"), 0
        self.factor, self.rounding, self.gradient = factor, rounding, gradient
        self.log_likelihood, self.log_prior = self.problem.log_likelihood, self.problem.log_prior

    def high_fidelity(self, x):
        self.asked += len(x)
        u = self.factor * self.problem.high_fidelity(x)
        u = u + self.rounding * u.detach().abs() * torch.tensor([1.0, -1.0])
        return u.detach() + self.gradient * (u - u.detach())


@pytest.fixture
def points() -> torch.Tensor:
    return build_problem("rosenbrock").sample_prior(700, torch.Generator().manual_seed(0))


@pytest.fixture
def target(tmp_path, points):
    """Makes a target whose store holds all points already."""
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    Target(Changeable(), Y, store=store).evaluate(points)
    store.flush()
    return lambda problem: Target(problem, Y, store=EvaluationStore(store.path, "target"))


def test_about_one_in_a_hundred_is_asked_again_and_changes_nothing(target, points):
    again = target(Changeable())
    found = again.evaluate(points)
    expected = Target(Changeable(), Y).evaluate(points)
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in FIELDS)
    assert again.problem.asked == again.ledger.checked and 2 <= again.ledger.checked <= 15
    assert again.ledger.evaluations == again.ledger.recalled == 700


def test_every_run_asks_at_least_once(target, points):
    again = target(Changeable())
    for point in points[:20]:
        again.evaluate(point[None])
    assert 1 <= again.ledger.checked == again.problem.asked < 5
    resumed = target(Changeable())
    resumed.ledger.load_state_dict(again.ledger.state_dict())
    resumed.evaluate(points[:1])
    assert resumed.ledger.checked == again.ledger.checked + 1


def test_what_this_run_has_asked_itself_is_not_asked_again(points):
    target = Target(Changeable(), Y)
    for _ in range(3):
        target.evaluate(points)
    assert target.problem.asked == 700 and target.ledger.checked == 0


@pytest.mark.parametrize("changed", [{"factor": 1.01}, {"gradient": 3.0}, {"factor": float("nan")}])
def test_another_answer_stops_the_run_with_advice(target, points, changed):
    with pytest.raises(PflowError, match="must be what the operator answers now.*delete the store"):
        target(Changeable(**changed)).evaluate(points[:50])


def test_rounding_is_no_other_answer(target, points):
    target(Changeable(rounding=1e-6)).evaluate(points)


def test_points_where_the_operator_fails_may_be_recalled(tmp_path, points):
    problem = Changeable(factor=float("nan"))
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    Target(problem, Y, store=store).evaluate(points)
    store.flush()
    again = Target(problem, Y, store=EvaluationStore(store.path, "target"))
    assert not again.evaluate(points).valid.any() and again.ledger.checked
