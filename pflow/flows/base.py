"""The interface of conditional flows.

A flow is an invertible map z = T(x; y) from the model x to a latent z of as many elements, for
every data vector y. With z ~ N(0, I) it defines the density

    log q(x given y) = log N(T(x; y); 0, I) + log |det dT/dx|

and draws from it by x = T^{-1}(z; y). Batch comes first everywhere; a y of batch 1 is one
observation for all x.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pflow.errors import PflowError

__all__ = [
    "Flow",
    "as_flow",
    "by_spatial_dimensions",
    "require_at_least_one",
    "require_compiler",
    "require_sizes",
    "standard_normal_log_density",
]

Choice = TypeVar("Choice")


def standard_normal_log_density(z: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
    """log N(z; 0, I) = -1/2 |z|^2 - D/2 log(2 pi), with D the number of elements of one z."""
    z = z.flatten(1)
    return z.square().sum(1) * -0.5 - 0.5 * math.log(2 * math.pi) * z.shape[1]


def by_spatial_dimensions(choices: Mapping[int, Choice], model_shape: Sequence[int]) -> Choice:
    """The entry of `choices` for models of shape (channels, *spatial); a vector is all channels and
    has none.

    Raises:
        PflowError: when nothing is offered for that many spatial dimensions.
    """
    spatial = len(model_shape) - 1
    if spatial not in choices:
        allowed = " or ".join(str(dimensions) for dimensions in choices)
        raise PflowError(
            f"`model_shape` (={tuple(model_shape)}) must be (channels, *spatial) with {allowed}"
            f" spatial dimensions for this flow, and has {spatial}: flatten the model to a vector,"
            f" here ({math.prod(model_shape)},)"
        )
    return choices[spatial]


def require_sizes(**shapes: Sequence[int]) -> None:
    """Raise PflowError for the first of `shapes` that is empty or holds a size below one."""
    for name, shape in shapes.items():
        if not shape or min(shape) < 1:
            raise PflowError(
                f"`{name}` (={tuple(shape)}) must hold at least one size, each 1 or more: give the"
                " shape of one sample"
            )


def require_at_least_one(**settings: int) -> None:
    """Raise PflowError for the first of `settings` that is below one."""
    for name, value in settings.items():
        if value < 1:
            raise PflowError(
                f"`{name}` (={value}) of a flow must be at least 1: give a larger number"
            )


def require_compiler() -> None:
    """Raise PflowError if torch.compile has no C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise PflowError(
            f"`compile` (=true) of a flow needs a C++ compiler, and `{compiler}` is not there:"
            " install one, name it in CXX, or leave `compile` out"
        )


def as_flow(flow: Mapping[str, Any] | Flow) -> Flow:
    """The flow that others wrap: built from arguments of `build_flow`, or as it is."""
    if isinstance(flow, Flow):
        return flow
    from pflow.flows import build_flow  # which needs the flows that call this

    return build_flow(**flow)


class Flow(nn.Module):
    r"""Base of all flows :math:`z = T(x; y)`.

    Arguments:
        model_shape: shape of one x, without the batch.
        data_shape: shape of one y, without the batch.

    A subclass implements `forward`, `inverse` and `initialise`; everything else follows from them.

    Example:
        >>> from pflow.flows import build_flow
        >>> flow = build_flow("coupling", (2,), (3,))
        >>> x = flow.sample(torch.zeros(1, 3), 5)
        >>> z, log_determinant = flow(x, torch.zeros(1, 3))
        >>> z.shape, log_determinant.shape, flow.log_prob(x, torch.zeros(1, 3)).shape
        (torch.Size([5, 2]), torch.Size([5]), torch.Size([5]))
    """

    initialised: Tensor

    def __init__(self, model_shape: Sequence[int], data_shape: Sequence[int]) -> None:
        super().__init__()
        self.model_shape = tuple(model_shape)
        self.data_shape = tuple(data_shape)
        require_sizes(model_shape=self.model_shape, data_shape=self.data_shape)
        self.register_buffer("initialised", torch.tensor(False))

    def forward(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        """z = T(x; y) and log |det dT/dx|."""
        raise NotImplementedError

    def inverse(
        self, z: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        """x = T^{-1}(z; y) and log |det dT^{-1}/dz|, which is minus that of `forward` at x."""
        raise NotImplementedError

    def initialise(self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "batch *data"]) -> None:
        """Set what depends on the data from one batch of pairs. Does nothing on an initialised
        flow.
        """
        raise NotImplementedError

    def initialise_inverse(
        self,
        n: int,
        y: Float[Tensor, "1 *data"],
        generator: torch.Generator | None = None,
        prior: Float[Tensor, "m *model"] | None = None,
    ) -> None:
        """Start from random weights without pairs: normalise draws of the prior, or nothing without
        them.

        A flow whose normalisations can be set on the sampling direction, from n draws, overrides
        this.
        """
        if prior is not None:
            self.initialise(prior, y.expand(len(prior), *self.data_shape))
        self.initialised.fill_(True)

    def condition(self, y: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """The data as the flow sees them: y itself, unless the flow transforms it."""
        return y

    def log_prob(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> Float[Tensor, " batch"]:
        """log q(x given y)."""
        z, log_determinant = self(x, y)
        return standard_normal_log_density(z) + log_determinant

    def log_prob_pairs(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, " batch"]:
        """The log density that pretraining maximises over pairs: log q(x given y), unless the flow
        models y as well.
        """
        return self.log_prob(x, y)

    def draw_latent(
        self, n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *model"]:
        """n draws of z ~ N(0, I), made on the generator's device: the same draws for every device
        of the flow.
        """
        parameter = next(self.parameters())
        device = parameter.device if generator is None else generator.device
        return torch.randn(
            n, *self.model_shape, generator=generator, device=device, dtype=parameter.dtype
        ).to(parameter.device)

    def sample(
        self, y: Float[Tensor, "#n *data"], n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *model"]:
        """n draws x ~ q(. given y): all for one y, or one for each of n."""
        return self.inverse(self.draw_latent(n, generator), y)[0]

    def sample_with_log_prob(
        self, y: Float[Tensor, "#n *data"], n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n *model"], Float[Tensor, " n"]]:
        """n draws x ~ q(. given y) and their log q(x given y), in one pass."""
        z = self.draw_latent(n, generator)
        x, log_determinant = self.inverse(z, y)
        return x, standard_normal_log_density(z) - log_determinant

    def _check(self, x: Tensor, y: Tensor) -> None:
        if x.shape[1:] != self.model_shape:
            raise PflowError(
                f"x has shape {tuple(x.shape)}, and must be (batch, *model_shape) with model_shape"
                f" {self.model_shape}"
            )
        if y.shape[1:] != self.data_shape:
            raise PflowError(
                f"y has shape {tuple(y.shape)}, and must be (batch, *data_shape) with data_shape"
                f" {self.data_shape}"
            )
        if y.shape[0] not in (1, x.shape[0]):
            raise PflowError(
                f"the batch of y (={y.shape[0]}) must be 1 or that of x (={x.shape[0]})"
            )

    def _check_pairs(self, x: Tensor, y: Tensor) -> None:
        self._check(x, y)
        if len(x) < 2 or len(y) < 2:
            raise PflowError(
                f"`initialise` needs the moments of at least 2 pairs, and got {len(x)} x and"
                f" {len(y)} y: give a larger batch"
            )
