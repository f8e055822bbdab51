"""A result shows physical parameters, and importance weights count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pflow.errors import PflowError
from pflow.notebook.result import Result
from pflow.plotting.posterior_figures import plot_posterior
from pflow.storage.arviz_schema import point_dataset
from pflow.storage.layout import RunFolder

DRAWS = 4000


def result_of(log_weight: np.ndarray) -> Result:
    """Draws x ~ N(0, 1) with p = exp(x), as of a store."""
    x = np.random.default_rng(0).standard_normal((1, DRAWS, 2))
    dims = ("chain", "draw", "x_dim")
    names = {"x_dim": ["log a", "log b"], "physical_dim": ["log a", "log b"]}
    posterior = xr.Dataset({"x": (dims, x)}, names)
    posterior["physical"] = (("chain", "draw", "physical_dim"), np.exp(x))
    groups = {
        "posterior": posterior,
        "sample_stats": xr.Dataset({"log_weight": (dims[:2], log_weight(x))}),
        "observed_data": point_dataset({"y": np.zeros(3)}),
    }
    tree = xr.DataTree.from_dict(groups)
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


def test_the_figures_are_those_of_the_command(tilted):
    """Of physical parameters, under their names, against the prior."""
    wanted = plot_posterior(tilted.posterior)
    assert list(tilted.plots()) == list(wanted) == ["marginals", "pairs"]
    for kind, figure in wanted.items():
        assert tilted.plot(kind)._repr_png_() == figure._repr_png_()
    assert tilted.plot()._repr_png_() == wanted["pairs"]._repr_png_()
    corner = tilted.plot().axes[-1]
    assert corner.get_xlabel() == "log b" and corner.get_xlim()[1] > 3  # exp(x), not x


def test_one_parameter_has_a_marginal_and_a_wrong_kind_a_message(tilted):
    one = tilted.plot(parameters=["log b"])
    assert len(one.axes) == 1 and one._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(PflowError, match="did you mean `pairs`"):
        tilted.plot("pair")
    with pytest.raises(PflowError, match="must name parameters of the posterior"):
        tilted.plots(["log c"])
