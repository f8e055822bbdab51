"""The store as people use it: ArviZ reads it, seeds pool as chains, weights correct the draws, and
the documentation runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pflow.errors import PflowError
from pflow.posterior import expectation, load_posterior, normalised_weights, resample
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree
from pflow.storage.store import write_arrays

ROOT = Path(__file__).parents[1]
DRAWS = 3000
PAIRS = {"x": np.arange(8.0).reshape(4, 2), "y": np.arange(12.0).reshape(4, 3)}


def write_run(
    folder: Path, seed: int, shift: float = 0.5, draws: int = DRAWS, **attributes: object
) -> None:
    """q = N(shift, 1) against the posterior N(0, 1), two unknowns."""
    x = shift + np.random.default_rng(seed).standard_normal((draws, 2))
    log_q, lp = -0.5 * ((x - shift) ** 2).sum(1), -0.5 * (x**2).sum(1)
    units = {"x": "km", "y": "s"}
    groups = {
        "posterior": draws_dataset({"x": x}, ["depth", "width"], units),
        "sample_stats": draws_dataset({"lp": lp, "log_q": log_q, "log_weight": lp - log_q}),
        "log_likelihood": draws_dataset({"y": -0.005 * x**2}),
        "posterior_predictive": draws_dataset({"y": x}, units=units),
        "observed_data": point_dataset({"y": np.zeros(2)}, units=units),
    }
    facts = {
        "experiment": "rosenbrock",
        "observation": "y1",
        "method": "preconditioned",
        "seed": seed,
    } | attributes
    write_datatree(folder / f"seed-{seed}/posterior.zarr", groups, facts)


@pytest.fixture
def method(tmp_path: Path) -> Path:
    folder = tmp_path / "results/rosenbrock/posteriors/y1/preconditioned"
    for seed in (0, 1, 10):
        write_run(folder, seed)
    return folder


def test_seeds_become_chains(method: Path):
    pooled = load_posterior(method)
    assert pooled["posterior"]["x"].dims == ("chain", "draw", "x_dim")
    assert pooled["posterior"]["chain"].values.tolist() == [0, 1, 10] == pooled.attrs["seeds"]
    assert pooled["posterior"]["x_dim"].values.tolist() == ["depth", "width"]
    assert pooled["observed_data"]["y"].dims == ("y_dim",)
    one = load_posterior(method / "seed-10")
    np.testing.assert_array_equal(pooled["posterior"]["x"].sel(chain=10), one["posterior"]["x"][0])
    two = load_posterior(method / "seed-0", method / "seed-1/posterior.zarr")
    assert two.sizes.get("chain", two["posterior"].sizes["chain"]) == 2


def test_names_and_units_survive(method: Path):
    tree = xr.open_datatree(method / "seed-0/posterior.zarr", engine="zarr", consolidated=False)
    assert tree["posterior"]["x"].attrs == {"long_name": "unknown model", "units": "km"}
    assert tree["posterior_predictive"]["y"].attrs["units"] == "s"
    assert tree["sample_stats"]["log_weight"].attrs["units"] == "nats"
    assert load_posterior(method)["posterior"]["x"].attrs["units"] == "km"


def test_arviz_reads_the_store_without_conversion(method: Path):
    arviz_stats, arviz_base = pytest.importorskip("arviz_stats"), pytest.importorskip("arviz_base")
    tree = xr.open_datatree(method / "seed-0/posterior.zarr", engine="zarr")
    table = arviz_stats.summary(tree)
    assert list(table.index) == ["x[depth]", "x[width]"]
    assert abs(float(table["mean"].astype(float).iloc[0]) - 0.5) < 0.1
    assert arviz_base.extract(tree, num_samples=100, random_seed=0).sizes["sample"] == 100
    pooled = load_posterior(method)
    assert float(arviz_stats.rhat(pooled)["x"].max()) < 1.01


def test_a_store_with_fewer_groups_is_pooled_with_others(method: Path):
    """As one of an earlier version."""
    tree = load_posterior(method / "seed-1")
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    groups.pop("posterior_predictive")
    write_datatree(method / "seed-1/posterior.zarr", groups, tree.attrs)
    pooled = load_posterior(method)
    assert pooled["posterior"].sizes["chain"] == 3 and "posterior_predictive" not in pooled


def test_weights_correct_the_mean_and_resampling_agrees(method: Path):
    pooled = load_posterior(method)
    x = pooled["posterior"]["x"]
    assert abs(float(x.mean()) - 0.5) < 0.03
    weighted = expectation(pooled, x)
    np.testing.assert_allclose(weighted, 0, atol=0.06)
    draws = resample(pooled, 2000, seed=1)
    assert draws.dims == ("draw", "x_dim") and draws.sizes["draw"] == 2000
    np.testing.assert_allclose(draws.mean("draw"), weighted, atol=0.06)
    np.testing.assert_array_equal(draws, resample(pooled, 2000, seed=1))
    assert not np.array_equal(draws, resample(pooled, 2000, seed=2))
    np.testing.assert_allclose(expectation(pooled, x**2), 1, atol=0.1)


def in_eight_unknowns(spread: float, draws: int = DRAWS) -> xr.DataTree:
    """q = N(0, spread^2 I) against the posterior N(0, I): with a spread well below 1 its mean is
    right and the weights have collapsed.
    """
    x = spread * np.random.default_rng(0).standard_normal((draws, 8))
    log_q = -0.5 * ((x / spread) ** 2).sum(1) - 8 * np.log(spread)
    stats = {"log_q": log_q, "log_weight": -0.5 * (x**2).sum(1) - log_q}
    return xr.DataTree.from_dict(
        {
            "posterior": draws_dataset({"x": x}, [f"x{i}" for i in range(8)]),
            "sample_stats": draws_dataset(stats),
        }
    )


def test_collapsed_weights_give_way_to_the_draws_as_they_are():
    posterior = in_eight_unknowns(0.3)
    x = posterior["posterior"]["x"]
    raw = (normalised_weights(posterior) * x).sum(("chain", "draw"))
    assert float(abs(raw).max()) > 0.1  # what the weights would make of a mean that is right
    with pytest.warns(UserWarning, match=r"collapsed \(k-hat .* effective draws of 3000\)"):
        mean = expectation(posterior, x)
    np.testing.assert_allclose(mean, x.mean(("chain", "draw")), atol=1e-12)
    assert mean.attrs["weights"] == "equal" and mean.attrs["pareto_k"] > 0.7
    with pytest.warns(UserWarning, match="equal weights"):
        draws = resample(posterior, 500)
    assert draws.attrs["weights"] == "equal" and draws.attrs["distinct_draws"] == 500
    assert len(np.unique(draws.values, axis=0)) == 500


def test_weights_that_carry_are_used_and_say_so():
    posterior = in_eight_unknowns(1.1)
    mean = expectation(posterior, posterior["posterior"]["x"] ** 2)
    np.testing.assert_allclose(mean, 1, atol=0.15)
    assert mean.attrs["weights"] == "importance" and mean.attrs["effective_sample_size"] > 1000
    draws = resample(posterior, 500)
    assert draws.attrs["weights"] == "importance"
    assert draws.attrs["distinct_draws"] == len(np.unique(draws.values, axis=0))


def test_few_effective_draws_are_too_few_whatever_k_hat_says():
    posterior = in_eight_unknowns(1.1)
    stats = posterior["sample_stats"]
    stats["log_weight"] = stats["log_weight"].where(stats["draw"] < 80, -np.inf)
    with pytest.warns(UserWarning, match="collapsed"):
        mean = expectation(posterior, posterior["posterior"]["x"])
    # draws without posterior density stay out of equal weights too
    expected = posterior["posterior"]["x"].isel(draw=slice(80)).mean(("chain", "draw"))
    np.testing.assert_allclose(mean, expected, atol=1e-12)
    stats["log_weight"] = stats["log_weight"] * 0 - np.inf
    with pytest.raises(PflowError, match="no draw has a positive weight"):
        expectation(posterior, posterior["posterior"]["x"])


def test_what_cannot_be_pooled_or_found_says_so(method: Path, tmp_path: Path):
    write_run(method, 11, draws=50)
    with pytest.raises(PflowError, match="pool runs of one length"):
        load_posterior(method)
    write_run(tmp_path / "other", 0, method="scratch")
    with pytest.raises(PflowError, match="pool seeds of one method only"):
        load_posterior(method / "seed-0", tmp_path / "other/seed-0")
    with pytest.raises(PflowError, match="holds no posterior store"):
        load_posterior(tmp_path / "nowhere")
    with pytest.raises(PflowError, match="must be at least 1"):
        resample(load_posterior(method / "seed-0"), 0)


@pytest.mark.parametrize("block", range(3))
def test_the_documentation_runs(method: Path, monkeypatch, block: int):
    import matplotlib

    matplotlib.use("Agg")
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/store.md").read_text(), re.DOTALL)
    assert len(code) == 3 and len(code[0].splitlines()) == 5
    monkeypatch.chdir(method.parents[4])
    write_arrays("results/rosenbrock/pairs/train/shard-0.zarr", PAIRS, {}, first="sample")
    write_arrays("results/rosenbrock/observations/y1.zarr", {"y": np.ones(2)}, {})
    names: dict = {}
    exec(compile(code[block], "docs/store.md", "exec"), names)
    if block == 0:
        assert Path("posterior.png").stat().st_size > 1000
    elif block == 1:
        np.testing.assert_allclose(names["weighted_mean"], 0, atol=0.1)
    else:
        assert names["pairs"]["x"].dims == ("sample", "x_dim")
        np.testing.assert_array_equal(names["pairs"]["y"], PAIRS["y"])
        np.testing.assert_array_equal(names["observation"]["y"], [1, 1])
