"""`pflow.problem`: an inverse problem from plain functions and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pflow.errors import PflowError
from pflow.notebook.operators import operator_from
from pflow.problems.noise import IndependentNoise, Noise
from pflow.problems.normal import Normal
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import DensityPrior, Prior, Unconstrained

__all__ = ["problem"]

UNBOUNDED = (constraints.real, constraints.real_vector)


def problem(
    operator: Any,
    prior: Any,
    noise_std: Any = None,
    *,
    low_fidelity: Any = None,
    gradient: Callable[..., Any] | None = None,
    low_fidelity_gradient: Callable[..., Any] | None = None,
    batched: bool = True,
    noise: Noise | None = None,
    parameter_names: Sequence[str] | None = None,
    model_unit: str = "1",
    data_unit: str = "1",
    name: str = "problem",
) -> PriorProblem:
    r"""The inverse problem :math:`y = F(x) + \epsilon,\ x \sim p(x)`, from functions and numbers.

    Arguments:
        operator: F, expensive: a function of a batch of models (batch, *model) -> (batch, *data),
            in torch (autograd gives its gradient) or NumPy; or a matrix, a `torch.nn.Module`, a
            `LinearOperator`, any `pflow.operators.Operator`. It is called with float64.
        prior: p(x): `(mean, std)`, two arrays or numbers of independent normals; a torch
            distribution whose batch is the model, bounded ones included; a dict of them by
            parameter; or an object of `pflow.problems.priors`.
        noise_std: standard deviation of independent Gaussian noise, one number or one for each
            datum.
        low_fidelity: a cheap stand-in for F, of the same kinds; absent: F itself, which is then run
            for each training pair.
        gradient: (x, v) -> :math:`J(x)^\top v` of a NumPy function; without it F has no gradient,
            and more evaluations are needed.
        low_fidelity_gradient: the same of `low_fidelity`.
        batched: whether functions take a batch; false: one model, (*model) -> (*data).
        noise: any other noise, of `pflow.problems.noise`, in place of `noise_std`.
        parameter_names: a label for each parameter.
        model_unit: unit of x, for figures and stores.
        data_unit: unit of y.
        name: what the problem, and the folder of its results, is called.

    Raises:
        PflowError: an argument has another form, or shapes do not agree.

    Example:
        >>> import numpy as np
        >>> cooling = problem(
        ...     lambda x: np.exp(-x * np.array([1.0, 2.0, 3.0])),
        ...     prior=([0.5], [0.2]),
        ...     noise_std=0.01,
        ... )
        >>> cooling.model_shape, cooling.data_shape, cooling.high_fidelity.differentiable
        ((1,), (3,), False)
    """
    density = _prior(prior)
    with torch.no_grad():
        x = density.sample(3, torch.Generator().manual_seed(0)).double()
        if isinstance(density, Unconstrained):
            x = density.physical(x)
    expensive = operator_from(operator, x, gradient, batched, "operator")
    cheap = expensive
    if low_fidelity is not None:
        cheap = operator_from(low_fidelity, x, low_fidelity_gradient, batched, "low_fidelity")
    if noise is None and noise_std is not None:
        noise = IndependentNoise(expensive.data_shape, _std(noise_std, expensive.data_shape))
    made = PriorProblem(density, cheap, expensive, None, parameter_names, noise)
    made.name, made.model_unit, made.data_unit = name, model_unit, data_unit
    return made


def _prior(given: Any) -> Prior:
    if isinstance(given, Distribution):
        shape = tuple(given.batch_shape + given.event_shape)
        if not shape:
            raise PflowError(
                f"`prior` ({given}) is that of a single number, and a model has axes: give its"
                " parameters as tensors, such as Normal(torch.zeros(2), 1.0)"
            )
        support = getattr(given.support, "base_constraint", given.support)
        return DensityPrior(given, shape) if support in UNBOUNDED else Unconstrained(given)
    if isinstance(given, Mapping):
        return Unconstrained(given)
    if isinstance(given, tuple) and len(given) == 2:
        return _normal(*given)
    if isinstance(given, Prior):
        return given
    raise PflowError(
        f"`prior` (a {type(given).__name__}) must be (mean, std), a torch distribution, a dict of"
        " these by parameter, or an object with `shape`, `sample` and `log_density`"
    )


def _normal(mean: Any, std: Any) -> Prior:
    """Independent normals."""
    try:
        centre, width = (torch.as_tensor(np.asarray(v, dtype=float)) for v in (mean, std))
        centre, width = (v.contiguous() for v in torch.broadcast_tensors(centre, width))
    except (TypeError, ValueError, RuntimeError) as error:
        raise PflowError(
            "`prior` (=(mean, std)) must be two numbers or arrays of one shape, that of a model"
        ) from error
    if not centre.ndim:
        centre, width = centre[None], width[None]
    if not (width > 0).all() or not width.isfinite().all() or not centre.isfinite().all():
        raise PflowError(
            "`prior` (=(mean, std)) must have finite means and positive standard deviations, and"
            f" the smallest of these is {width.min().item():g}"
        )
    if centre.ndim == 1:
        return Normal(centre, width.diag(), (1 / width).diag())
    return DensityPrior(torch.distributions.Normal(centre, width), tuple(centre.shape))


def _std(given: Any, shape: tuple[int, ...]) -> float | Tensor:
    values = np.asarray(given, dtype=float)
    if values.ndim == 0:
        return float(values)
    if values.shape != shape:
        raise PflowError(
            f"`noise_std` (of shape {values.shape}) must be one number, or one for each datum, of"
            f" shape {shape}"
        )
    return torch.as_tensor(values)
