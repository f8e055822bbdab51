"""No point is evaluated twice: not within a run, not after a kill, not for a larger budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.storage import evaluations
from pflow.storage.evaluations import EvaluationStore

Y = torch.tensor([[1.0, 2.0]])


@pytest.fixture
def points() -> torch.Tensor:
    return build_problem("rosenbrock").sample_prior(700, torch.Generator().manual_seed(0))


class Counting:
    """The Rosenbrock problem, counting the points that its operator is asked for."""

    def __init__(self):
        self.problem, self.asked = build_problem("rosenbrock"), 0
        self.log_likelihood, self.log_prior = self.problem.log_likelihood, self.problem.log_prior

    def high_fidelity(self, x):
        self.asked += len(x)
        return self.problem.high_fidelity(x)


def same(a, b):
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("log_likelihood", "log_prior", "score", "valid")
    )


def test_known_points_are_recalled_and_new_ones_asked(tmp_path, points):
    problem = Counting()
    first = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    expected = first.evaluate(points, round_number=3)
    first.store.flush()
    assert problem.asked == 700 and first.ledger.recalled == 0

    second = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    assert same(second.evaluate(points), expected)
    assert problem.asked == 700
    assert (second.ledger.evaluations, second.ledger.recalled) == (700, 700)
    mixed = torch.cat([points[:5], points[:5] + 1])
    found = second.evaluate(mixed)
    assert problem.asked == 705
    assert same(found, Target(build_problem("rosenbrock"), Y).evaluate(mixed))


def test_another_target_starts_anew(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "one problem")
    Target(build_problem("rosenbrock"), Y, store=store).evaluate(points)
    store.flush()
    assert len(EvaluationStore(tmp_path / "e.zarr", "another problem")) == 0


def test_an_append_cut_short_is_forgotten(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    target = Target(build_problem("rosenbrock"), Y, store=store)
    expected = target.evaluate(points[:300])
    store.flush()
    count = (tmp_path / "e.zarr/zarr.json").read_bytes()
    target.evaluate(points[300:])
    store.flush()
    (tmp_path / "e.zarr/zarr.json").write_bytes(count)  # killed before the count was written

    problem = Counting()
    again = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    assert len(again.store) == 300
    assert same(again.evaluate(points[:300]), expected) and problem.asked == 0
    again.evaluate(points)
    assert problem.asked == 400
    again.store.flush()
    assert len(EvaluationStore(tmp_path / "e.zarr", "target")) == 700


def test_slow_evaluations_are_on_disk_at_once(tmp_path, points, monkeypatch):
    monkeypatch.setattr(evaluations, "FLUSH_SECONDS", 0.0)
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    Target(build_problem("rosenbrock"), Y, store=store).evaluate(points[:64], round_number=7)
    reread = EvaluationStore(tmp_path / "e.zarr", "target")
    assert len(reread) == 64
    np.testing.assert_array_equal(reread.rows["round"], 7)


def test_a_damaged_store_costs_evaluations_and_nothing_else(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    expected = Target(build_problem("rosenbrock"), Y, store=store).evaluate(points)
    store.flush()
    (tmp_path / "e.zarr/score/zarr.json").unlink()
    assert same(
        Target(
            build_problem("rosenbrock"), Y, store=EvaluationStore(tmp_path / "e.zarr", "target")
        ).evaluate(points),
        expected,
    )
