"""Settings of the prior in the high-fidelity stage: where log p(x) comes from, if the problem's own is not wanted or has no formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Union

from pflow.decoding import TaggedUnion, setting

__all__ = ["FlowPrior", "GaussianPrior", "LowFidelityPosterior", "Prior", "ProblemPrior"]


@dataclass(frozen=True)
class ProblemPrior(TaggedUnion):
    """The prior of the problem itself, which must have a density."""

    tag_value: ClassVar[str] = "problem"


@dataclass(frozen=True)
class GaussianPrior(TaggedUnion):
    """A stationary Gaussian image whose spectrum is that of the training images: with a linear operator the posterior is exact."""

    tag_value: ClassVar[str] = "gaussian"


@dataclass(frozen=True)
class FlowPrior(TaggedUnion):
    """An unconditional flow that was trained on the training models."""

    tag_value: ClassVar[str] = "flow"
    flow: str = setting("Which entry of `flows`, one with `conditional: false`.")


@dataclass(frozen=True)
class LowFidelityPosterior(TaggedUnion):
    """The paper's released objective: the method's own pretrained flow at y_obs, frozen. It has seen y_obs already, so the data count twice."""

    tag_value: ClassVar[str] = "lowfi_posterior"


Prior = Union[ProblemPrior, GaussianPrior, FlowPrior, LowFidelityPosterior]
