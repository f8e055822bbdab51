"""Reading of posterior stores: load one run or pool its seeds as chains, draw equally weighted
samples, take expectations.

    from pflow.posterior import expectation, load_posterior, resample

    # every seed is a chain
    posterior = load_posterior("results/rosenbrock/posteriors/y1/preconditioned")
    mean = expectation(posterior, posterior["posterior"]["x"])
    draws = resample(posterior, 1000)  # equally weighted

With x_i ~ q and log_weight_i = log p~(x_i) - log q(x_i), the weighted mean of f is sum_i w_i f(x_i)
/ sum_i w_i: it corrects the flow where the weights are supported (`pflow.diagnostics.pareto`).
Where they have collapsed it rests on a few draws, and the draws as they are stand in, with a
warning. The attribute `weights` of what comes back says which, "importance" or "equal".
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pflow.diagnostics.pareto import weight_support
from pflow.errors import PflowError
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import MethodFolder, RunFolder, root_file, whole

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["expectation", "load_posterior", "log_weights", "normalised_weights", "resample"]

POOLED = (
    "posterior",
    "sample_stats",
    "posterior_predictive",
    "log_likelihood",
    "score_stats",
    "prior",
    "prior_predictive",
    "sample_stats_prior",
)


def load_posterior(*paths: str | Path) -> "xr.DataTree":
    """One or several posterior stores as one DataTree in ArviZ's schema, each store a chain.

    Arguments:
        paths: stores (`.../seed-0/posterior.zarr`), folders of a run (`.../seed-0`), or folders of
            a method, which stand for all their seeds.

    Raises:
        PflowError: nothing found, a damaged store, or stores of different observations or numbers
            of draws.
    """
    import xarray as xr

    stores = [store for path in paths for store in _stores(Path(path))]
    if not stores:
        raise PflowError("`load_posterior` needs the path of at least one posterior store")
    trees = [read_datatree(store) for store in stores]
    first = trees[0]
    if len(trees) == 1:
        return first
    for store, tree in zip(stores, trees, strict=True):
        for name in ("experiment", "observation", "method"):
            if tree.attrs.get(name) != first.attrs.get(name):
                raise PflowError(
                    f"{store} has the {name} {tree.attrs.get(name)!r}, and {stores[0]} has"
                    f" {first.attrs.get(name)!r}: pool seeds of one method only"
                )
        if tree["posterior"].sizes["draw"] != first["posterior"].sizes["draw"]:
            raise PflowError(
                f"{store} has {tree['posterior'].sizes['draw']} draws and {stores[0]}"
                f" {first['posterior'].sizes['draw']}: pool runs of one length"
            )
    seeds = [int(tree.attrs.get("seed", i)) for i, tree in enumerate(trees)]
    groups = {}
    for name, node in first.children.items():
        if not all(name in tree for tree in trees):
            continue  # a store of an earlier version has fewer groups
        datasets = [tree[name].to_dataset() for tree in trees]
        if name in POOLED:
            datasets = [
                dataset.assign_coords(chain=[seed])
                for dataset, seed in zip(datasets, seeds, strict=True)
            ]
            groups[f"/{name}"] = xr.concat(
                datasets,
                dim="chain",
                data_vars="minimal",
                coords="minimal",
                compat="override",
                join="exact",
            )
        else:
            groups[f"/{name}"] = node.to_dataset()
    pooled = xr.DataTree.from_dict(groups)
    pooled.attrs = {**first.attrs, "seeds": seeds}
    pooled.attrs.pop("seed", None)
    return pooled


def log_weights(posterior: "xr.DataTree") -> "xr.DataArray":
    """log p~(x) - log q(x) of each draw; zeros, equal weights, where no operator was known (an
    experiment of pairs alone).

    Example:
        >>> import xarray as xr
        >>> dims = ("chain", "draw")
        >>> posterior = xr.DataTree.from_dict({
        ...     "posterior": xr.Dataset({"x": (dims, [[1.0, 4.0]])}),
        ...     "sample_stats": xr.Dataset({"log_weight": (dims, np.log([[2.0, 1.0]]))}),
        ... })
        >>> log_weights(posterior).values.round(3)
        array([[0.693, 0.   ]])
    """
    stats = posterior["sample_stats"]
    return (stats["log_weight"] if "log_weight" in stats else 0 * stats["log_q"]).astype("float64")


def normalised_weights(posterior: "xr.DataTree") -> "xr.DataArray":
    """Importance weights that sum to one over all chains and draws.

    Example:
        >>> import xarray as xr
        >>> dims = ("chain", "draw")
        >>> posterior = xr.DataTree.from_dict({
        ...     "posterior": xr.Dataset({"x": (dims, [[1.0, 4.0]])}),
        ...     "sample_stats": xr.Dataset({"log_weight": (dims, np.log([[2.0, 1.0]]))}),
        ... })
        >>> normalised_weights(posterior).values.round(3)
        array([[0.667, 0.333]])
    """
    log_weight = log_weights(posterior)
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def expectation(posterior: "xr.DataTree", values: "xr.DataArray") -> "xr.DataArray":
    """The mean over (chain, draw) of `values`, any function of the draws with these two dims:
    importance-weighted, or over the draws as they are where the weights have collapsed.

    Its attributes are `weights` ("importance" or "equal"), `pareto_k` and `effective_sample_size`.

    Raises:
        PflowError: no draw has a positive weight.

    Example:
        >>> import xarray as xr
        >>> dims = ("chain", "draw")
        >>> posterior = xr.DataTree.from_dict({
        ...     "posterior": xr.Dataset({"x": (dims, [[1.0, 4.0]])}),
        ...     "sample_stats": xr.Dataset({"log_weight": (dims, np.log([[2.0, 1.0]]))}),
        ... })
        >>> mean = expectation(posterior, posterior["posterior"]["x"])
        >>> float(mean.round(6)), mean.attrs["weights"]
        (2.0, 'importance')
    """
    weight, facts = _supported_weights(posterior)
    mean = (weight * values).sum(("chain", "draw"))
    mean.attrs = facts
    return mean


def resample(posterior: "xr.DataTree", n: int, seed: int = 0) -> "xr.DataArray":
    """n equally weighted draws of x, taken with replacement in proportion to their weights
    (systematic resampling); all draws weigh the same where the weights have collapsed.

    Attributes as those of `expectation`, and `distinct_draws`: how many different ones were taken.

    Raises:
        PflowError: if `n` is not positive, or no draw has a positive weight.

    Example:
        >>> import xarray as xr
        >>> dims = ("chain", "draw")
        >>> posterior = xr.DataTree.from_dict({
        ...     "posterior": xr.Dataset({"x": (dims, [[1.0, 4.0]])}),
        ...     "sample_stats": xr.Dataset({"log_weight": (dims, np.log([[2.0, 1.0]]))}),
        ... })
        >>> resample(posterior, 3).values
        array([4., 1., 1.])
    """
    if n < 1:
        raise PflowError(f"`n` (={n}) must be at least 1")
    generator = np.random.default_rng(seed)
    weights, facts = _supported_weights(posterior)
    weight = weights.stack(sample=("chain", "draw"))
    total = np.cumsum(weight.values)
    places = (np.arange(n) + generator.random()) / n * total[-1]
    chosen = generator.permutation(
        np.searchsorted(total, places, side="right").clip(max=len(total) - 1)
    )
    draws = posterior["posterior"]["x"].stack(sample=("chain", "draw")).isel(sample=chosen)
    draws = (
        draws.reset_index("sample", drop=True)
        .transpose("sample", ...)
        .rename(sample="draw")
        .drop_vars(("chain", "draw"), errors="ignore")
    )
    draws.attrs = draws.attrs | facts | {"distinct_draws": len(np.unique(chosen))}
    return draws


def _supported_weights(posterior: "xr.DataTree") -> "tuple[xr.DataArray, dict[str, Any]]":
    """Weights that sum to one, and which they are: importance weights, or equal ones of all draws
    with a finite posterior density.
    """
    log_weight = log_weights(posterior)
    finite = np.isfinite(log_weight)
    if not finite.any():
        raise PflowError(
            "no draw has a positive weight: the posterior has no mass where the flow has its draws;"
            " read verdict_reasons in metrics.json"
        )
    log_weight = log_weight.where(finite, -np.inf)
    support = weight_support(log_weight.values.reshape(-1))
    facts = {
        "weights": "importance" if support.supported else "equal",
        "effective_sample_size": support.effective_sample_size,
        **({} if support.pareto_k is None else {"pareto_k": support.pareto_k}),
    }
    if not support.supported:
        warnings.warn(
            f"the importance weights have collapsed ({support}): the draws of the flow are used as"
            " they are, with equal weights; read verdict_reasons in metrics.json, or fine-tune"
            " longer",
            stacklevel=3,
        )
        return finite / finite.sum(), facts
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum(), facts


def _stores(path: Path) -> list[Path]:
    """The stores that `path` stands for, seeds in order."""
    for store in (whole(path), RunFolder(path).posterior):
        if root_file(store).is_file():
            return [store]
    stores = [run.posterior for run in MethodFolder(path).sampled()]
    if not stores:
        raise PflowError(
            f"{path} holds no posterior store: name a posterior.zarr, a seed's folder or a method's"
            " folder, after `snakemake sample`"
        )
    return stores
