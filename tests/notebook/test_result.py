"""A result shows physical parameters, and importance weights count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pflow.notebook.result import Result
from pflow.storage.layout import RunFolder

DRAWS = 4000


def result_of(log_weight: np.ndarray, **groups) -> Result:
    """Draws x ~ N(0, 1) with p = exp(x), as of a store."""
    x = np.random.default_rng(0).standard_normal((1, DRAWS, 2))
    dims = ("chain", "draw", "x_dim")
    names = {"x_dim": ["log a", "log b"]}
    posterior = xr.Dataset({"x": (dims, x)}, names)
    posterior["physical"] = (("chain", "draw", "physical_dim"), np.exp(x))
    stats = xr.Dataset({"log_weight": (dims[:2], log_weight(x))})
    tree = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats, **groups})
    result = Result(RunFolder(Path("results/cooling/posteriors/y/auto/seed-0")))
    result.__dict__["posterior"] = tree
    return result


@pytest.fixture
def tilted() -> Result:
    """The posterior N(0.5, 1) of the first x: log p - log q = x / 2."""
    return result_of(lambda x: 0.5 * x[..., 0])


def test_expectations_are_those_of_physical_parameters_under_the_posterior(tilted):
    mean = tilted.expectation()
    np.testing.assert_allclose(mean, [np.exp(1.0), np.exp(0.5)], rtol=0.15)
    share = tilted.expectation(lambda p: p[:, 0] > 1)
    assert abs(float(share) - 0.691) < 0.04  # P(N(0.5, 1) > 0)


def test_draws_of_equal_weight_are_physical_and_follow_the_posterior(tilted):
    draws = tilted.resample(3000)
    assert draws.shape == (3000, 2) and (draws > 0).all()
    assert abs(float(np.log(draws[:, 0]).mean()) - 0.5) < 0.08


def test_collapsed_weights_are_said_and_not_used():
    result = result_of(lambda x: 50 * x[..., 0])
    with pytest.warns(UserWarning, match="weights have collapsed"):
        assert abs(float(np.log(result.resample(2000)[:, 0]).mean())) < 0.1


def test_the_figure_has_the_names_and_the_range_of_the_parameters(tilted):
    axes = tilted.plot().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("log a", "log b")
    assert "cooling" in axes.get_title(loc="left") + axes.get_title()
    assert axes.get_xlim()[1] > 3  # exp(x), not x


def test_a_notebook_shows_the_figure(tilted):
    assert tilted.plot()._repr_png_().startswith(b"\x89PNG")
