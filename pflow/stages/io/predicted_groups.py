"""Groups of a posterior store, in ArviZ's schema, that come from predictions that were made anyway,
and so cost no call of the operator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pflow.inference.target import Target
from pflow.problems.base import Problem
from pflow.storage.arviz_schema import draws_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["log_likelihood_group", "log_likelihoods", "prior_predictive_group"]

MOST_NUMBERS = 2**22  # of one variable beside the draws: 16 MB


def log_likelihoods(
    target: Target, prediction: Float[Tensor, "batch *data"], draws: int
) -> Float[Tensor, "batch *data"] | Float[Tensor, " batch"]:
    """log p(y_k given x) of each datum; of all data together where their noise is not independent,
    the problem has a likelihood of its own, or `draws` times the data are too many numbers.

    Arguments:
        target: problem and observation.
        prediction: F(x).
        draws: in all, of which this is a batch.
    """
    problem, each = target.problem, None
    ordinary = type(problem).log_likelihood is Problem.log_likelihood
    if ordinary and draws * math.prod(problem.data_shape) <= MOST_NUMBERS:
        each = problem.noise.log_likelihood_each(target.y - prediction)
    return problem.log_likelihood(target.y, prediction) if each is None else each


def log_likelihood_group(values: np.ndarray) -> xr.Dataset:
    """The group `log_likelihood` of what `log_likelihoods` gives."""
    group = draws_dataset({"y": values}, units={"y": "nats"})
    what = "y given x), of all data together" if values.ndim == 1 else "y given x) of each datum"
    group["y"].attrs["long_name"] = f"log p({what}"
    return group


def prior_predictive_group(
    problem: Problem, predictions: Float[Tensor, "n *data"], generator: torch.Generator
) -> xr.Dataset:
    """The group `prior_predictive`: F(x) + noise at draws of the prior, as many of them as are not
    too many numbers.

    Arguments:
        problem: its noise and units.
        predictions: F(x).
        generator: of the noise.
    """
    kept = predictions[: max(1, MOST_NUMBERS // math.prod(problem.data_shape))].cpu()
    y = problem.noise.add_to(kept, generator, drawn_in=torch.float32)
    return draws_dataset({"y": y.numpy()}, units={"y": problem.data_unit})
