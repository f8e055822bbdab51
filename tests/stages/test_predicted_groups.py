"""The groups `log_likelihood` and `prior_predictive` of a posterior store: what they hold, and that
no operator is asked for them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pflow.inference.target import Target
from pflow.problems import Gaussian
from pflow.problems.noise import CovarianceNoise, MaskedNoise
from pflow.stages.io import predicted_groups
from pflow.stages.io.predicted_groups import (
    log_likelihood_group,
    log_likelihoods,
    prior_predictive_group,
)
from pflow.storage.datatrees import read_datatree
from tests.support.delivered import sampled_run

DRAWS, OF_PRIOR, STD = 300, 400, 0.4


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Draws of a flow at one observation of four data."""
    return sampled_run(tmp_path_factory.mktemp("run"), DRAWS, OF_PRIOR).posterior


def test_the_log_likelihoods_of_the_data_add_up_to_that_of_a_draw(store):
    tree, problem = read_datatree(store), Gaussian(side=2)
    each = tree["log_likelihood"]["y"]
    assert each.dims == ("chain", "draw", "y_dim") and each.attrs["units"] == "nats"
    x = torch.from_numpy(tree["posterior"]["x"].values[0])
    expected = tree["sample_stats"]["lp"].values[0] - problem.log_prior(x).numpy()
    np.testing.assert_allclose(each.sum("y_dim").values[0], expected, rtol=1e-4, atol=1e-3)
    residual = (tree["observed_data"]["y"].values - problem.high_fidelity(x).numpy()) / STD
    datum = -0.5 * residual**2 - math.log(STD * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(each.values[0], datum, rtol=1e-3, atol=1e-3)


def test_predictions_of_the_prior_are_those_of_its_first_draws_with_noise(store):
    tree = read_datatree(store)
    x = torch.from_numpy(tree["prior"]["x"].values[0, :OF_PRIOR])
    noise = (
        tree["prior_predictive"]["y"].values[0] - Gaussian(side=2).high_fidelity(x).numpy()
    ) / STD
    assert noise.shape == (OF_PRIOR, 4)
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=0.08)


def test_no_forward_is_spent_on_them(store):
    attributes = read_datatree(store).attrs
    assert attributes["sampling_forwards"] == DRAWS + OF_PRIOR
    assert attributes["sampling_evaluations"] == 8


def test_arviz_cross_validates_the_store(store):
    arviz_stats, xarray = pytest.importorskip("arviz_stats"), pytest.importorskip("xarray")
    tree = xarray.open_datatree(store, engine="zarr")
    with pytest.warns(UserWarning, match="shape parameter"):  # the flow is far from the posterior
        found = arviz_stats.loo(tree)
    assert found.n_data_points == 4 and found.n_samples == DRAWS


def test_what_is_dependent_or_too_large_is_stored_as_one_number_a_draw(monkeypatch):
    problem = Gaussian(side=2)
    x, y = problem.simulate(6, torch.Generator().manual_seed(0))
    target, prediction = Target(problem, y[:1]), problem.high_fidelity(x)
    assert log_likelihoods(target, prediction, 6).shape == (6, 4)
    monkeypatch.setattr(predicted_groups, "MOST_NUMBERS", 23)
    whole = log_likelihoods(target, prediction, 6)
    torch.testing.assert_close(whole, problem.log_likelihood(y[:1], prediction))
    assert log_likelihood_group(whole.numpy())["y"].dims == ("chain", "draw")
    kept = prior_predictive_group(problem, prediction, torch.Generator().manual_seed(1))
    assert kept.sizes["draw"] == 5
    monkeypatch.undo()
    problem.noise = CovarianceNoise((4,), torch.eye(4))
    assert log_likelihoods(target, prediction, 6).shape == (6,)


def test_missing_data_count_nothing():
    problem = Gaussian(side=2)
    problem.noise = MaskedNoise(problem.noise, torch.tensor([True, False, True, True]))
    x, y = problem.simulate(6, torch.Generator().manual_seed(0))
    each = log_likelihoods(Target(problem, y[:1]), problem.high_fidelity(x), 6)
    assert (each[:, 1] == 0).all() and (each[:, 0] != 0).all()
