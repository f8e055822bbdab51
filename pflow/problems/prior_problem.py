"""A problem built from a prior, two operators and noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import ComposedOperator, Operator
from pflow.problems.base import Problem
from pflow.problems.noise import Noise
from pflow.problems.priors import Prior, Unconstrained

__all__ = ["PriorProblem"]


class PriorProblem(Problem):
    """A problem built from a prior of `pflow.problems.priors`, two operators and noise.

    The base class of most problems; `PriorOverride` replaces the prior of an existing problem. With
    an `Unconstrained` prior the operators take physical parameters, and the model x is unbounded
    everywhere else; `physical(x)` maps back.

    Arguments:
        prior: p(x).
        low_fidelity: see `Problem`.
        high_fidelity: see `Problem`.
        noise_std: see `Problem`.
        noise: see `Problem`.
        parameter_names: see `Problem`; by default those of the prior, or x[i,j].

    Raises:
        PflowError: for impossible values, or if the prior is not one of models that the operators
            take.

    Example:
        >>> import torch
        >>> from pflow.operators import IdentityOperator
        >>> from pflow.problems.priors import MaternField
        >>> identity = IdentityOperator((16,))
        >>> problem = PriorProblem(MaternField((4, 4), 2.0), identity, identity, noise_std=0.1)
        >>> problem.simulate(3, torch.Generator().manual_seed(0))[1].shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        prior: Prior,
        low_fidelity: Operator,
        high_fidelity: Operator,
        noise_std: float | None = None,
        parameter_names: Sequence[str] | None = None,
        noise: Noise | None = None,
    ) -> None:
        self.prior = prior
        physical_shape = prior.physical_shape if isinstance(prior, Unconstrained) else prior.shape
        for operator in (low_fidelity, high_fidelity):
            if operator.model_shape != physical_shape:
                raise PflowError(
                    f"the prior is one of models of shape {physical_shape}, and"
                    f" `{type(operator).__name__}.model_shape` is {operator.model_shape}: make them"
                    " equal"
                )
        if isinstance(prior, Unconstrained):
            low_fidelity, high_fidelity = (
                ComposedOperator(operator, prior.physical, prior.shape)
                for operator in (low_fidelity, high_fidelity)
            )
        if parameter_names is None:
            parameter_names = getattr(prior, "parameter_names", None) or [
                f"x[{','.join(map(str, index))}]" for index in product(*map(range, prior.shape))
            ]
        super().__init__(low_fidelity, high_fidelity, noise_std, parameter_names, noise)

    def physical(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *physical"]:
        return self.prior.physical(x) if isinstance(self.prior, Unconstrained) else x

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n *model"]:
        return self.prior.sample(n, generator).to(dtype)

    def log_prior(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        return self.prior.log_density(x)
