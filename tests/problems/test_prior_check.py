"""A density that is not that of the prior's draws is found before anything is trained."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.problems import Bimodal, Gaussian, LogNormal, Rosenbrock
from pflow.problems.prior_check import check_prior


class Wrong(Bimodal):
    """Draws of N(shift, std^2) under the density of N(0, 1)."""

    def __init__(self, std: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.std, self.shift = std, shift

    def sample_prior(self, n, generator=None, dtype=torch.float32):
        return self.shift + self.std * super().sample_prior(n, generator, dtype)


class Uniform(Bimodal):
    """On the square [0, 1]^2: the identities do not hold at its edges."""

    def sample_prior(self, n, generator=None, dtype=torch.float32):
        return torch.rand(n, 2, generator=generator, dtype=torch.float64).to(dtype)

    def log_prior(self, x):
        inside = ((x >= 0) & (x <= 1)).all(1)
        return torch.where(inside, 0 * x.sum(1), -torch.inf)


class NoDensity(Bimodal):
    def log_prior(self, x):
        raise PflowError("the density is not known")


def check(problem):
    return check_prior(problem, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "problem", [Rosenbrock(), Gaussian(side=8), LogNormal(), Bimodal()], ids=lambda p: p.name
)
def test_sound_priors_pass(problem):
    found = check(problem)
    assert found["prior_scale_error"] < 0.1 and found["prior_shift_standard_errors"] < 5


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Wrong(std=1.3), r"must be -2, and is -3\.\d+ .*1\.\d+ times the variance"),
        (Wrong(std=0.7), "correct one of the two"),
        (Wrong(shift=0.5), r"must be 0, and for unknown \d the draws lie about 0\.5"),
    ],
    ids=["too wide", "too narrow", "shifted"],
)
def test_a_density_of_something_else_is_refused(problem, words):
    with pytest.raises(PflowError, match=f"`log_prior` must be the density.*{words}"):
        check(problem)


@pytest.mark.parametrize("problem", [Uniform(), NoDensity()], ids=lambda p: type(p).__name__)
def test_where_nothing_can_be_compared_nothing_is_claimed(problem):
    assert check(problem) == {"prior_scale_error": None, "prior_shift_standard_errors": None}
