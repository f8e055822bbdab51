"""A linear operator learnt from its data and gradients, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.objectives.linear.operator_range import OperatorRange, why_range_too_large

SIZE, DATA, RANK = 12, 9, 4
OBSERVED = torch.arange(DATA, dtype=torch.float64)


def operator(seed=0):
    """J of rank 4, (m, D)."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(DATA, RANK, generator=generator, dtype=torch.float64)
    right = torch.randn(RANK, SIZE, generator=generator, dtype=torch.float64)
    return left @ right


def evaluations(matrix, count, seed=1):
    """x, w = J x + c and the gradient of -|w_obs - w|^2 / 2."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    w = x @ matrix.T + 0.5
    return x, w, (OBSERVED - w) @ matrix


def learnt(matrix, *counts):
    known = OperatorRange(OBSERVED)
    for k, count in enumerate(counts):
        known.learn(*evaluations(matrix, count, seed=k))
    return known


def test_rank_plus_one_evaluations_tell_all():
    matrix = operator()
    known = learnt(matrix, 3, 2, 2)
    assert known.rank == RANK
    torch.testing.assert_close(known.basis @ known.adjoint.T, matrix)
    assert known.error < 1e-12
    assert known.error_nats < 1e-20


def test_few_evaluations_tell_the_directions_that_were_seen():
    """J in the span of the data, and the error of new data beside it."""
    matrix = operator()
    known = learnt(matrix, 3)
    assert known.rank == 2
    assert known.error is None and known.error_nats == math.inf
    basis = known.basis
    torch.testing.assert_close(basis.T @ basis, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(known.adjoint, matrix.T @ basis)
    torch.testing.assert_close(known.residual, basis.T @ (OBSERVED - known.data))
    _, w, _ = new = evaluations(matrix, 5, seed=9)
    beside = (w - known.data) @ (torch.eye(DATA, dtype=torch.float64) - basis @ basis.T)
    known.learn(*new)
    assert known.error == pytest.approx(float(beside.square().mean().sqrt()))
    assert known.error_nats == pytest.approx(0.5 * DATA * known.error**2)


def test_one_evaluation_at_a_time_is_the_same_as_all_at_once():
    matrix = operator()
    single, at_once = OperatorRange(OBSERVED), learnt(matrix, 8)
    x, w, gradient = evaluations(matrix, 8, seed=0)
    for k in range(8):
        single.learn(x[k : k + 1], w[k : k + 1], gradient[k : k + 1])
    found = single.basis @ single.adjoint.T
    torch.testing.assert_close(found, at_once.basis @ at_once.adjoint.T)


def test_rounding_of_single_precision_is_no_new_direction():
    matrix = operator()
    known = OperatorRange(OBSERVED)
    for k in range(4):
        x, w, gradient = (part.float().double() for part in evaluations(matrix, 4, seed=k))
        known.learn(x, w, gradient)
    assert known.rank == RANK
    torch.testing.assert_close(known.basis @ known.adjoint.T, matrix, atol=1e-4, rtol=1e-4)


def test_a_saved_state_goes_on():
    matrix = operator()
    whole, first, second = learnt(matrix, 3, 4), learnt(matrix, 3), OperatorRange(OBSERVED)
    second.load_state_dict(first.state_dict())
    second.learn(*evaluations(matrix, 4, seed=1))
    assert torch.equal(second.adjoint, whole.adjoint) and second.error == whole.error


def test_memory_is_that_of_both_matrices():
    assert why_range_too_large(10_000, 1000, 1000, 0.033) == ""
    assert "`memory_gb` is 0.03" in why_range_too_large(10_000, 1000, 1000, 0.03)
