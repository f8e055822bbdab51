"""The score error of flows whose posterior is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.inference.target import Target
from pflow.operators import IdentityOperator
from pflow.problems import Gaussian
from pflow.stages.sample import latent_score_error
from tests.support.affine_flow import AffineFlow


class Independent(Gaussian):
    """x ~ N(0, I), y = x + N(0, I), in four unknowns: the posterior is N(y / 2, I / 2)."""

    jitter = 1e-12

    def __init__(self):
        super().__init__(side=2, length=1e-3, noise_std=1.0)
        self.high_fidelity = self.low_fidelity = IdentityOperator((4,))


def score_error(relative_std=1.0, centre=0.0, draws=4000):
    y = torch.tensor([[0.3, -1.0, 2.0, 0.1]], dtype=torch.float64)
    target, flow = Target(Independent(), y), AffineFlow(4, 0.5, relative_std * 0.5**0.5, centre)
    x = flow.sample(y, draws, torch.Generator().manual_seed(0)).detach()
    values = latent_score_error(flow, target, x)
    assert values.shape == (draws,) and target.ledger.evaluations == draws
    return values


def test_the_posterior_itself_has_none():
    np.testing.assert_allclose(score_error(draws=50), 0, atol=1e-12)


@pytest.mark.parametrize("relative_std", [0.5, 0.9, 2.0])
def test_a_wrong_spread_has_the_known_error(relative_std):
    expected = (relative_std**2 - 1) ** 2
    values = score_error(relative_std)
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / len(values) ** 0.5)


def test_a_shift_counts_in_standard_deviations():
    np.testing.assert_allclose(score_error(centre=0.3), (0.3 / 0.5**0.5) ** 2, rtol=1e-9)
