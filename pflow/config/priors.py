"""Settings of the prior in the high-fidelity stage: the source of log p(x), if it is not the
problem's formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Union

from pflow.config.decoding import TaggedUnion, setting

__all__ = [
    "FlowPriorSettings",
    "GaussianPriorSettings",
    "LowFidelityPosteriorSettings",
    "PriorSettings",
    "ProblemPriorSettings",
]


@dataclass(frozen=True)
class ProblemPriorSettings(TaggedUnion):
    """The prior of the problem itself, which must have a density."""

    tag_value: ClassVar[str] = "problem"


@dataclass(frozen=True)
class GaussianPriorSettings(TaggedUnion):
    """A stationary Gaussian image whose spectrum is that of the training images: with a linear
    operator the posterior is exact.
    """

    tag_value: ClassVar[str] = "gaussian"


@dataclass(frozen=True)
class FlowPriorSettings(TaggedUnion):
    """An unconditional flow that was trained on the training models."""

    tag_value: ClassVar[str] = "flow"
    flow: str = setting("Which entry of `flows`, one with `conditional: false`.")


@dataclass(frozen=True)
class LowFidelityPosteriorSettings(TaggedUnion):
    """The paper's released objective: the method's own pretrained flow at y_obs, frozen. It has
    seen y_obs already, so the data count twice.
    """

    tag_value: ClassVar[str] = "lowfi_posterior"


PriorSettings = Union[
    ProblemPriorSettings, GaussianPriorSettings, FlowPriorSettings, LowFidelityPosteriorSettings
]
