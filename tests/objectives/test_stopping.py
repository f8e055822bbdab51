"""Stopping: the budget, the targets, and the words that say which."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.inference.evaluation import Evaluation
from pflow.objectives.stopping import Stopping, effective_fraction


def record(stopping: Stopping, log_weight: torch.Tensor) -> None:
    n = len(log_weight)
    zero = torch.zeros(n)
    stopping.record(
        Evaluation(
            x=zero[:, None],
            log_likelihood=log_weight,
            log_prior=zero,
            score=zero[:, None],
            valid=torch.isfinite(log_weight),
            prediction=zero[:, None],
        ),
        zero,
    )


def test_effective_fraction_of_known_weights():
    assert effective_fraction(torch.zeros(8)) == 1.0
    assert effective_fraction(torch.tensor([0.0, -math.inf, -math.inf, -math.inf])) == 0.25
    assert effective_fraction(torch.full((4,), -math.inf)) == 0.0


def test_budget_is_said_and_whether_the_target_was_missed():
    assert Stopping(100).reason(99) == ""
    assert Stopping(100).reason(100) == "the budget of 100 evaluations is spent"
    assert Stopping(100, ess_fraction=0.9).reason(100).endswith("its target was not reached")


def test_effective_sample_size_target_needs_a_full_window():
    stopping = Stopping(10**6, ess_fraction=0.8, window=64)
    record(stopping, torch.zeros(63))
    assert stopping.reason(63) == ""
    record(stopping, torch.zeros(1))
    assert "effective sample size fraction (1.00 over 64 draws)" in stopping.reason(64)
    record(stopping, torch.randn(64, generator=torch.Generator().manual_seed(0)) * 3)
    assert stopping.reason(128) == ""


@pytest.mark.parametrize(("shift", "stops"), [(0.0, True), (1.0, False)])
def test_elbo_target_compares_two_windows(shift, stops):
    generator = torch.Generator().manual_seed(0)
    stopping = Stopping(10**6, elbo_change=0.2, window=128)
    record(stopping, 0.1 * torch.randn(128, generator=generator))
    record(stopping, 0.1 * torch.randn(128, generator=generator) + shift)
    assert bool(stopping.reason(256)) == stops


def test_state_survives():
    stopping = Stopping(100, window=8)
    record(stopping, torch.arange(5.0))
    again = Stopping(100, window=8)
    again.load_state_dict(stopping.state_dict())
    assert torch.equal(again.log_weights, torch.arange(5.0))
