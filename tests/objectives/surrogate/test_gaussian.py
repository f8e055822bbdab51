"""The Gaussian of a model's posterior: where the model has run away, and where it is skewed."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.objectives.surrogate.gaussian import PosteriorGaussian, centred, gauss_newton


class Linear:
    """The posterior of data J v under unit noise and a unit prior, as a model of F."""

    def __init__(self, jacobian: torch.Tensor) -> None:
        self._jacobian = jacobian

    def jacobian(self, v: torch.Tensor) -> torch.Tensor:
        return self._jacobian

    def value_and_score(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        score = -v - v @ self._jacobian.T @ self._jacobian
        return 0.5 * (v * score).sum(1), score


@pytest.mark.parametrize("size", [1.0, 1e9])
def test_the_precision_keeps_the_prior_beside_the_largest_jacobian(size):
    jacobian = size * torch.randn(
        5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    root = gauss_newton(Linear(jacobian), torch.zeros(8, dtype=torch.float64)).factor

    precision = torch.eye(8, dtype=torch.float64) + jacobian.T @ jacobian
    assert torch.allclose(root @ root.T / size**2, precision / size**2, rtol=1e-12, atol=1e-12)
    assert torch.equal(root, root.tril()) and (root.diagonal() > 0).all()
    # Three directions are not seen by the data: there the precision is the prior's.
    assert torch.allclose(
        torch.linalg.svdvals(root)[5:], torch.ones(3, dtype=torch.float64), atol=1e-6
    )


class LogGamma:
    """Independent log p(v) = 2 v - exp(v): the mode is log 2, the curvature there 2."""

    def value_and_score(self, v):
        return (2 * v - v.exp()).sum(1), 2 - v.exp()


def test_the_centred_gaussian_has_no_average_score():
    """E[2 - exp(v)] over N(m, 1/2) vanishes at m = log 2 - 1/4, a quarter below the mode."""
    size = 64
    mode = torch.full((size,), math.log(2), dtype=torch.float64)
    frame = PosteriorGaussian(mode, math.sqrt(2) * torch.eye(size, dtype=torch.float64))
    found = centred(LogGamma(), frame, torch.Generator().manual_seed(0))
    assert float((found.mean - (math.log(2) - 0.25)).abs().max()) < 0.03
    assert torch.equal(found.factor, frame.factor)


def test_points_where_the_model_explodes_move_no_mean():
    size = 64
    far = torch.full((size,), 30.0, dtype=torch.float64)
    frame = PosteriorGaussian(far, torch.eye(size, dtype=torch.float64))
    assert centred(LogGamma(), frame, torch.Generator().manual_seed(0)) is frame
