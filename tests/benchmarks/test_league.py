"""What the league counts, and how it ranks."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def row(method: str, evaluations: int, kl: float, seed: int = 0, problem: str = "gaussian-64"):
    missing = {"mean_error_posterior_std": 0.3, "std_error": 0.3, "sliced_wasserstein": math.nan}
    place = {"problem": problem, "problem_seed": 3, "seed": seed, "method": method}
    return {**place, "evaluations": evaluations, "kl_reverse_nats": kl, "seconds": 1.0, **missing}


def test_a_rival_counts_at_every_budget_that_pays_it_and_ours_at_its_own():
    medians = importlib.import_module("league_table").medians
    found = medians([row("laplace", 80, 0.5), row("surrogate", 128, 0.1)])
    budgets = {name: {b for _, method, b in found if method == name} for name in ("laplace",)}
    assert budgets["laplace"] == {128, 256, 512, 1024}
    assert {b for _, method, b in found if method == "surrogate"} == {128}


def test_the_summary_counts_a_loss_and_a_win_of_medians():
    summary = importlib.import_module("league_summary").summary
    ours = [row("surrogate", 64, kl, seed) for seed, kl in enumerate((0.5, 0.4, 9.0))]
    rows = [*ours, row("surrogate", 128, 0.1), row("laplace", 64, 0.2), row("mgvi", 100, 0.095)]
    text = summary(rows)
    assert "0.5; 0.2 laplace" in text
    assert "**0.1**; 0.095 mgvi" in text  # within the error of the best
    assert "in 1 of 2 cells (50%)" in text


def test_a_method_without_a_density_does_not_rank_before_one_with():
    ranked = importlib.import_module("league_table").ranked
    medians = importlib.import_module("league_table").medians
    found = medians([row("nuts", 500, math.nan), row("laplace", 80, 2.0)])
    assert [entry[1] for entry in ranked(found, "gaussian-64", 512)] == ["laplace", "nuts"]


def test_goals_are_read_at_a_budget_that_they_pay():
    goals = importlib.import_module("league_summary").goals
    rows = [row("surrogate", 256, 0.95, problem="lognormal-64-1.0"), row("surrogate", 64, 0.04)]
    text = goals(rows)
    assert "| lognormal-64-1.0 | 384 (256) | 0.9 | 0.95 | none |" in text
    assert "| gaussian-64 | 64 | 0.05 | **0.04** | none |" in text
    assert "1 of 2 goals" in text


def test_the_floor_is_that_of_a_kept_reference():
    floor_of = importlib.import_module("league_problems").floor_of
    assert floor_of("gaussian-64") is None
    mean, std = floor_of("darcy")
    assert 0.006 < mean < 0.02 and 0.004 < std < 0.03


def test_products_are_counted_and_exact_for_long_directions():
    league_problem = importlib.import_module("league_problems").league_problem
    posterior = importlib.import_module("league_whitened").Whitened(league_problem("darcy", 0))
    v = torch.zeros(1, posterior.size, dtype=torch.float64)
    t = torch.randn(2, posterior.size, generator=torch.Generator().manual_seed(0)).double()
    x = posterior.model(v)
    exact = posterior.problem.high_fidelity.jvp(x.expand(2, -1), t @ posterior.root.T)
    exact = posterior.problem.noise.whiten(exact)
    scale = 1e5  # F is not defined that many standard deviations away
    assert torch.allclose(posterior.directional(v, scale * t), scale * exact, rtol=1e-5)
    before = posterior.spent
    posterior.product(v, t)
    assert posterior.spent == before + 2


class Bent:
    """w(v) = 2 v + 0.3 v^2 of one unknown, as `Whitened` offers it."""

    size, root = 1, torch.eye(1, dtype=torch.float64)
    given = SimpleNamespace(judge=None)

    def data(self, v):
        return 2 * v + 0.3 * v**2

    def directional(self, v, t):
        return (2 + 0.6 * v) * t

    def jacobian(self, v, counted):
        return 2 + 0.6 * v

    def judged_draws(self, v, log_q):
        return {"v": v[:, 0], "log_q": log_q}


def test_the_density_of_geometric_inference_is_that_of_its_draws():
    judged = importlib.import_module("league_geometric").judged_geometric
    found = judged(Bent(), torch.tensor([[0.4]], dtype=torch.float64))
    v, log_q = found["v"], found["log_q"]
    grid = torch.linspace(float(v.min()), float(v.max()), 2001, dtype=torch.float64)
    order = v.argsort()
    density = torch.from_numpy(
        importlib.import_module("numpy").interp(grid, v[order], log_q[order].exp())
    )
    assert torch.trapezoid(density, grid) == pytest.approx(1.0, abs=0.02)
    mean = torch.trapezoid(grid * density, grid)
    spread = torch.trapezoid((grid - mean) ** 2 * density, grid).sqrt()
    assert float(v.mean()) == pytest.approx(float(mean), abs=0.02)
    assert float(v.std()) == pytest.approx(float(spread), rel=0.05)
