"""Settings of a problem whose operators are models on UM-Bridge servers: no Python needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from pflow.config.decoding import TaggedUnion, setting
from pflow.errors import PflowError

__all__ = [
    "LowFidelityModelSettings",
    "MaternPriorSettings",
    "NormalPriorSettings",
    "UMBridgeProblemSettings",
    "UniformPriorSettings",
]


@dataclass(frozen=True)
class NormalPriorSettings(TaggedUnion):
    """Independent normal parameters."""

    tag_value: ClassVar[str] = "normal"
    mean: list[float] = setting(
        "Mean, one number for all parameters or one each.", factory=lambda: [0.0]
    )
    std: list[float] = setting("Standard deviation, likewise.", factory=lambda: [1.0])


@dataclass(frozen=True)
class UniformPriorSettings(TaggedUnion):
    """Independent uniform parameters; the model x is their logit, without bounds, and figures and
    intervals show the parameters themselves.
    """

    tag_value: ClassVar[str] = "uniform"
    low: list[float] = setting("Lower bound, one number for all parameters or one each.")
    high: list[float] = setting("Upper bound, likewise.")


@dataclass(frozen=True)
class MaternPriorSettings(TaggedUnion):
    """A Gaussian random field with Matern covariance on a grid, row by row."""

    tag_value: ClassVar[str] = "matern"
    grid: list[int] = setting("Points along each axis, one or two of them.")
    length: float = setting("Correlation length, in units of `spacing`.", above=0)
    smoothness: float = setting("nu of the covariance; 0.5 is rough.", 1.5, above=0)
    std: float = setting("Standard deviation.", 1.0, above=0)
    mean: float = setting("Mean, the same everywhere.", 0.0)
    spacing: float = setting("Distance of neighbouring points.", 1.0, above=0)


@dataclass(frozen=True)
class LowFidelityModelSettings:
    """The low-fidelity model: another model, another server, or the same with another `config`."""

    umbridge: str | None = setting("URL of its server; absent: that of the high fidelity.", None)
    model: str | None = setting("Its name; absent: that of the high fidelity.", None)
    config: dict[str, Any] = setting(
        "Keys of its configuration that differ from that of the high fidelity.", factory=dict
    )


@dataclass(frozen=True, kw_only=True)
class UMBridgeProblemSettings(TaggedUnion):
    """A problem whose operators are models on UM-Bridge servers, in any language:
    docs/umbridge.md.
    """

    user_key: ClassVar[str] = "umbridge"
    model_shape: ClassVar[None] = None  # the server knows it, and planning does not ask it
    umbridge: str = setting("URL of the server of the high-fidelity model: http://localhost:4242.")
    model: str = setting("Name of the high-fidelity model on this server.", "forward")
    config: dict[str, Any] = setting("Its configuration, sent with each request.", factory=dict)
    low_fidelity: LowFidelityModelSettings = setting(
        "What differs at low fidelity; absent: nothing, and each training pair costs a run of the"
        " high-fidelity model.",
        factory=LowFidelityModelSettings,
    )
    prior: Union[NormalPriorSettings, UniformPriorSettings, MaternPriorSettings] = setting(
        "The prior of the parameters, all inputs of the model one after the other."
    )
    noise_std: list[float] = setting(
        "Standard deviation of the noise, one number for all data or one each."
    )
    parameter_names: list[str] | None = setting(
        "A label for each parameter; absent: x[0], x[1], ...", None
    )
    model_unit: str = setting("Unit of the parameters, for figures and stores.", "1")
    data_unit: str = setting("Unit of the data.", "1")
    parallel_requests: int = setting("Requests at the same time to a server.", 1, minimum=1)
    timeout_s: float = setting("Seconds after which a request has failed.", 3600.0, above=0)
    patience_s: float = setting(
        "Seconds for which a server that cannot be reached is asked again, so that it may be"
        " restarted.",
        120.0,
        minimum=0,
    )

    def __post_init__(self) -> None:
        for key, url in (
            ("umbridge", self.umbridge),
            ("low_fidelity.umbridge", self.low_fidelity.umbridge),
        ):
            if url is not None and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
                raise PflowError(
                    f"`problem.{key}` (={url!r}) must be the URL of a UM-Bridge server, such as"
                    " http://localhost:4242: correct it"
                )
        if any(std <= 0 for std in self.noise_std) or not self.noise_std:
            raise PflowError(
                f"`problem.noise_std` (={self.noise_std}) must hold positive numbers: correct it"
            )
