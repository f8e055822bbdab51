r"""Bounded parameters in coordinates without bounds.

A physical parameter p (a porosity between 0 and 1, a positive depth) with density pi(p) is written
as p = T(x), where T maps all real numbers to the support of pi: a sigmoid for an interval, an
exponential for positive numbers, stick-breaking for proportions. Then

    log p(x) = log pi(T(x)) + log |det dT/dx|

and x has no bounds. Flows, gradients, NUTS and stores work on x; operators are evaluated at T(x).
The transform is applied in two places only: in this prior, and before the operator
(`pflow.operators.ComposedOperator`, which `PriorProblem` puts there by itself).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, biject_to
from torch.distributions.transforms import Transform

from pflow.errors import PflowError
from pflow.problems.priors.base import seeded_by

__all__ = ["Unconstrained"]


class Unconstrained:
    """The prior of x, where T(x) follows torch distributions and T is the bijection that torch has
    for their supports.

    Computed in the dtype and on the device of the distributions' own draws: give their parameters
    in float64 for densities in float64.

    Arguments:
        parameters: one distribution, whose batch and event shape is that of one physical model; or
            distributions by name, whose values are flattened and put one after the other into a
            vector.

    Raises:
        PflowError: for a discrete distribution, or one whose support has no bijection in torch.

    Example:
        >>> from torch.distributions import Gamma, Uniform
        >>> prior = Unconstrained({"rate": Gamma(2.0, 1.0), "share": Uniform(0.0, 1.0)})
        >>> prior.physical(torch.zeros(1, 2))  # exp and the logistic function
        tensor([[1.0000, 0.5000]])
    """

    def __init__(self, parameters: Distribution | Mapping[str, Distribution]) -> None:
        alone = isinstance(parameters, Distribution)
        named = {"x": parameters} if isinstance(parameters, Distribution) else parameters
        self._parts = [_Part(name, distribution) for name, distribution in named.items()]
        self.shape = self._parts[0].shape if alone else (sum(part.size for part in self._parts),)
        self.physical_shape = (
            self._parts[0].physical_shape
            if alone
            else (sum(part.physical_size for part in self._parts),)
        )
        self.parameter_names = tuple(name for part in self._parts for name in part.names)

    def physical(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *physical"]:
        """T(x)."""
        parts = x.flatten(1).split([part.size for part in self._parts], 1)
        physical = [
            part.physical(piece).reshape(len(x), -1).to(x)
            for part, piece in zip(self._parts, parts, strict=True)
        ]
        return torch.cat(physical, 1).reshape(len(x), *self.physical_shape)

    def unconstrained(self, p: Float[Tensor, "batch *physical"]) -> Float[Tensor, "batch *model"]:
        """The inverse of T: coordinates of physical parameters.

        Raises:
            PflowError: if one of them is out of its bounds.
        """
        parts = p.flatten(1).split([part.physical_size for part in self._parts], 1)
        x = torch.cat(
            [
                part.unconstrained(piece).reshape(len(p), -1).to(p)
                for part, piece in zip(self._parts, parts, strict=True)
            ],
            1,
        )
        return x.reshape(len(p), *self.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        seed = seeded_by(generator)
        device = torch.device("cpu") if generator is None else generator.device
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            draws = [
                part.transform.inv(part.distribution.sample((n,)).double()) for part in self._parts
            ]
        return torch.cat([x.reshape(n, -1).to(device) for x in draws], 1).reshape(n, *self.shape)

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        parts = x.flatten(1).split([part.size for part in self._parts], 1)
        first, *others = (
            part.log_density(piece).to(x) for part, piece in zip(self._parts, parts, strict=True)
        )
        return sum(others, first)


class _Part:
    """One distribution, its bijection, and its place in the model."""

    def __init__(self, name: str, distribution: Distribution) -> None:
        try:
            self.transform: Transform = biject_to(distribution.support)
        except NotImplementedError as error:
            raise PflowError(
                f"the prior of `{name}` must be continuous with a support that torch can"
                f" unconstrain, and {type(distribution).__name__} has {distribution.support}: use"
                " another distribution, or CallablePrior"
            ) from error
        self.name, self.distribution = name, distribution
        self.physical_shape = tuple(distribution.batch_shape + distribution.event_shape)
        self.shape = tuple(self.transform.inverse_shape(self.physical_shape))
        self.size, self.physical_size = math.prod(self.shape), math.prod(self.physical_shape)
        with torch.random.fork_rng():
            self._like = distribution.sample((1,))[:0]  # its dtype and device

    @property
    def names(self) -> list[str]:
        """A label for each unconstrained number."""
        if not self.shape:
            return [self.name]
        return [
            f"{self.name}[{','.join(map(str, index))}]"
            for index in (
                torch.cartesian_prod(*map(torch.arange, self.shape)).reshape(self.size, -1).tolist()
            )
        ]

    def physical(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "batch *physical"]:
        return self.transform(x.to(self._like).reshape(len(x), *self.shape))

    def unconstrained(self, p: Tensor) -> Float[Tensor, "batch *model"]:
        p = p.to(self._like.device).reshape(len(p), *self.physical_shape)
        support = self.distribution.support
        assert support is not None, "a bijection to it was found"
        inside = support.check(p).reshape(len(p), -1).all(1)
        if not inside.all():
            raise PflowError(
                f"`{self.name}` must be within {self.distribution.support}, and"
                f" {p[~inside][0].tolist()} is not: correct it"
            )
        return self.transform.inv(p)

    def log_density(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        finite = x.isfinite().all(1)
        x = torch.where(finite[:, None], x, 0.0).to(self._like).reshape(len(x), *self.shape)
        p = self.transform(x)
        log_density = self.distribution.log_prob(p).reshape(len(x), -1).sum(1)
        log_volume = self.transform.log_abs_det_jacobian(x, p).reshape(len(x), -1).sum(1)
        return torch.where(finite.to(x.device), log_density + log_volume, torch.nan)
