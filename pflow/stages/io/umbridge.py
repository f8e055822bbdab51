"""The problem of settings that name models on UM-Bridge servers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Uniform

from pflow.config.umbridge import (
    MaternPriorSettings,
    NormalPriorSettings,
    UMBridgeProblemSettings,
    UniformPriorSettings,
)
from pflow.errors import PflowError
from pflow.operators.umbridge import UMBridgeOperator
from pflow.problems.noise import IndependentNoise
from pflow.problems.normal import Normal
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import MaternField, Prior, Unconstrained

__all__ = ["UMBridgeProblem"]


class UMBridgeProblem(PriorProblem):
    """A problem whose operators are models on UM-Bridge servers.

    Raises:
        PflowError: a server lacks the model, or numbers of parameters or data do not fit it.
        PassingError: a server cannot be reached.
    """

    name = "umbridge"

    def __init__(self, settings: UMBridgeProblemSettings) -> None:
        low = settings.low_fidelity
        low_fidelity = _operator(
            settings,
            low.umbridge or settings.umbridge,
            low.model or settings.model,
            {**settings.config, **low.config},
        )
        high_fidelity = _operator(settings, settings.umbridge, settings.model, settings.config)
        data_shape = high_fidelity.data_shape
        noise_std = _one_or_each("noise_std", settings.noise_std, data_shape[0], "data")
        super().__init__(
            _prior(settings.prior, high_fidelity.model_shape[0]),
            low_fidelity,
            high_fidelity,
            parameter_names=settings.parameter_names,
            noise=IndependentNoise(
                data_shape, noise_std if len(settings.noise_std) > 1 else settings.noise_std[0]
            ),
        )
        self.model_unit, self.data_unit = settings.model_unit, settings.data_unit  # type: ignore[misc]
        if isinstance(settings.prior, MaternPriorSettings) and len(settings.prior.grid) == 2:
            height, width = self.field_shape = tuple(settings.prior.grid)
            spacing = settings.prior.spacing
            self.field_extent = (0.0, width * spacing, height * spacing, 0.0)
            self.field_label, self.field_unit = "parameter", "length"


def _operator(
    settings: UMBridgeProblemSettings, url: str, model: str, config: dict[str, Any]
) -> UMBridgeOperator:
    return UMBridgeOperator(
        url,
        model,
        config,
        parallel_requests=settings.parallel_requests,
        timeout_s=settings.timeout_s,
        patience_s=settings.patience_s,
    )


def _prior(
    settings: NormalPriorSettings | UniformPriorSettings | MaternPriorSettings, size: int
) -> Prior:
    """The prior of `size` parameters."""
    if isinstance(settings, NormalPriorSettings):
        mean = _one_or_each("prior.mean", settings.mean, size, "parameters")
        std = _one_or_each("prior.std", settings.std, size, "parameters")
        if (std <= 0).any():
            raise PflowError(
                f"`problem.prior.std` (={settings.std}) must hold positive numbers: correct it"
            )
        return Normal(mean, std.diag(), (1 / std).diag())
    if isinstance(settings, UniformPriorSettings):
        low = _one_or_each("prior.low", settings.low, size, "parameters")
        high = _one_or_each("prior.high", settings.high, size, "parameters")
        if (low >= high).any():
            raise PflowError(
                f"`problem.prior.low` (={settings.low}) must be less than `problem.prior.high`"
                f" (={settings.high}): correct them"
            )
        return Unconstrained(Uniform(low, high))
    if math.prod(settings.grid) != size:
        raise PflowError(
            f"`problem.prior.grid` (={settings.grid}) must have as many points as the model has"
            f" parameters, {size}: correct it"
        )
    field = MaternField(
        settings.grid,
        settings.length,
        nu=settings.smoothness,
        std=settings.std,
        spacing=settings.spacing,
    )
    return Normal(field.mean + settings.mean, field.root, torch.linalg.inv(field.root))


def _one_or_each(key: str, values: Sequence[float], size: int, of: str) -> Tensor:
    """`values` as a float64 vector of `size`, where a single one stands for all.

    Raises:
        PflowError: for another number of values.
    """
    if len(values) not in (1, size):
        raise PflowError(
            f"`problem.{key}` (of {len(values)} numbers) must have one number, or one for each of"
            f" the {size} {of} of the model: correct it"
        )
    return torch.tensor(values, dtype=torch.float64).expand(size).contiguous()
