"""Settings of the problems: prior, operators and noise. One class a problem; `Problem` is any of
them.

Each knows its `model_shape`, the shape of one x, so that the rest of the configuration can be
checked against it without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Union

from pflow.config.decoding import TaggedUnion, setting
from pflow.config.user_problems import PairsOnlyProblemSettings, UserProblemSettings

__all__ = [
    "BimodalProblemSettings",
    "DarcyProblemSettings",
    "GaussianProblemSettings",
    "LogNormalProblemSettings",
    "PoissonProblemSettings",
    "ProblemSettings",
    "RosenbrockProblemSettings",
    "SeismicProblemSettings",
    "TravelTimeProblemSettings",
    "WaveformProblemSettings",
    "has_operator",
]


@dataclass(frozen=True)
class RosenbrockProblemSettings(TaggedUnion):
    """Two unknowns, the Rosenbrock prior and a random 2x2 operator (the paper's first
    experiment).
    """

    tag_value: ClassVar[str] = "rosenbrock"
    noise_std: float = setting(
        "Standard deviation of the independent Gaussian noise on y.", 0.4, above=0
    )
    mu: float = setting("Mean of x1 under the prior.", 0.0)
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 0, minimum=0)
    model_shape: ClassVar[tuple[int, ...]] = (2,)


@dataclass(frozen=True)
class GaussianProblemSettings(TaggedUnion):
    """Correlated Gaussian prior on a square grid with dense linear operators: the posterior is
    exact in any dimension.
    """

    tag_value: ClassVar[str] = "gaussian"
    side: int = setting(
        "Points along each side of the grid: the model has side * side unknowns.",
        8,
        minimum=1,
        maximum=64,
    )
    length: float = setting("Correlation length of the prior, in grid points.", 1.5, above=0)
    noise_std: float = setting(
        "Standard deviation of the independent Gaussian noise on y.", 0.4, above=0
    )
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 3, minimum=0)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class LogNormalProblemSettings(TaggedUnion):
    """A positive random field seen through a matrix: nonlinear in any dimension, without an exact
    posterior.
    """

    tag_value: ClassVar[str] = "lognormal"
    side: int = setting(
        "Points along each side of the grid: the model has side * side unknowns.",
        8,
        minimum=1,
        maximum=64,
    )
    length: float = setting("Correlation length of the prior, in grid points.", 1.5, above=0)
    noise_std: float = setting(
        "Standard deviation of the independent Gaussian noise on y.", 0.4, above=0
    )
    strength: float = setting("How nonlinear the operator is.", 0.5, above=0)
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 3, minimum=0)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class BimodalProblemSettings(TaggedUnion):
    """Two unknowns whose posterior has two separated modes."""

    tag_value: ClassVar[str] = "bimodal"
    noise_std: float = setting(
        "Standard deviation of the independent Gaussian noise on y.", 0.3, above=0
    )
    model_shape: ClassVar[tuple[int, ...]] = (2,)


@dataclass(frozen=True)
class SeismicProblemSettings(TaggedUnion):
    """Compressed sensing of seismic images, learnt from shallow geology and wanted for deep geology
    (the paper's second experiment).
    """

    tag_value: ClassVar[str] = "seismic"
    height: int = setting("Rows of an image, its depth.", 32, minimum=8)
    width: int = setting("Columns of an image, its traces.", 32, minimum=8)
    ratio: float = setting(
        "Unknowns for each measurement: 2 keeps half of the entries of the random convolution.",
        2.0,
        minimum=1,
    )
    measurements: bool = setting(
        "Whether the data are the measurements themselves; false: their back-projection, an image,"
        " as in the paper.",
        False,
    )
    noise_std: float = setting(
        "Standard deviation of the independent Gaussian noise on y; images have the standard"
        " deviation 1.",
        0.2,
        above=0,
    )
    operator_seed: int = setting("Seed of the random convolution.", 0, minimum=0)
    training: Literal["shallow", "deep"] = setting("Geology of the pairs.", "shallow")
    target: Literal["shallow", "deep"] = setting(
        "Geology of the observations' true models.", "deep"
    )
    images: str | None = setting(
        "Your own seismic sections instead of the generator: SEG-Y (a line, or a volume with its"
        " inlines), or a stack (section, depth, trace) as .npy, .npz, Zarr, NetCDF or HDF5. The"
        " path starts in the folder where you run pflow.",
        None,
    )
    array: str = setting("Name of the stack in that file, where it has several arrays.", "x")
    training_rows: list[int] | None = setting(
        "Depths of the training images in samples, [first, one after the last].", None
    )
    target_rows: list[int] | None = setting(
        "Depths of the observations' true models, likewise.", None
    )
    stride: int = setting(
        "Samples and traces between neighbouring images cut from the file.", 32, minimum=1
    )

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (1, self.height, self.width)


@dataclass(frozen=True)
class TravelTimeProblemSettings(TaggedUnion):
    """Crosswell travel-time tomography of log-velocities: straight rays, and the eikonal
    equation.
    """

    tag_value: ClassVar[str] = "traveltime"
    side: int = setting(
        "Cells along each side of the section: the model has side * side unknowns.",
        16,
        minimum=4,
        maximum=64,
    )
    spacing_m: float = setting("Side of a cell in metres.", 6.25, above=0)
    velocity_m_s: float = setting("Background velocity v0 in metres per second.", 2000.0, above=0)
    sources: int = setting("Sources in the left well.", 8, minimum=1)
    receivers: int = setting("Receivers in the right well.", 16, minimum=1)
    std: float = setting(
        "Standard deviation of the logarithm of the velocity under the prior.", 0.2, above=0
    )
    length_m: float = setting(
        "Correlation length of the prior (Matern, smoothness 3/2) in metres.", 10.0, above=0
    )
    noise_std: float = setting(
        "Standard deviation of the noise on each delay in milliseconds.", 1.0, above=0
    )
    workers: int = setting(
        "Processes that share each batch of eikonal solves; results do not depend on it.",
        1,
        minimum=1,
    )

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class WaveformProblemSettings(TaggedUnion):
    """Full-waveform inversion of log-velocities between two wells: the Born approximation, and the
    acoustic wave equation (needs `pip install 'pflow[wave]'`).
    """

    tag_value: ClassVar[str] = "waveform"
    side: int = setting(
        "Cells along each side of the section: the model has side * side unknowns.",
        16,
        minimum=4,
        maximum=32,
    )
    spacing_m: float = setting("Side of a cell in metres.", 10.0, above=0)
    velocity_m_s: float = setting("Background velocity v0 in metres per second.", 2000.0, above=0)
    frequency_hz: float = setting("Peak frequency of the sources' Ricker wavelet.", 15.0, above=0)
    sources: int = setting("Sources in the left well.", 6, minimum=1)
    receivers: int = setting("Receivers in the right well.", 8, minimum=1)
    std: float = setting(
        "Standard deviation of the logarithm of the velocity under the prior.", 0.1, above=0
    )
    length_m: float = setting(
        "Correlation length of the prior (Matern, smoothness 3/2) in metres.", 30.0, above=0
    )
    noise_std: float = setting(
        "Standard deviation of the noise on each sample; recordings in the background have the"
        " standard deviation 1.",
        0.2,
        above=0,
    )

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class PoissonProblemSettings(TaggedUnion):
    """The benchmark of Aristoff and Bangerth: 64 coefficients of a Poisson equation from 169 values
    of its solution.
    """

    tag_value: ClassVar[str] = "poisson"
    noise_std: float = setting("Standard deviation of the noise on each value.", 0.05, above=0)
    mesh: int = setting(
        "Elements along each side at high fidelity, a multiple of 8; the publication has 32.",
        32,
        minimum=8,
        maximum=256,
    )
    low_mesh: int = setting(
        "The same at low fidelity; 16 is a good one, 8 a bad one.", 16, minimum=8, maximum=256
    )
    model_shape: ClassVar[tuple[int, ...]] = (64,)


@dataclass(frozen=True)
class DarcyProblemSettings(TaggedUnion):
    """Darcy flow: log-permeabilities from 100 pressures; finite elements on a fine and a coarse
    mesh.
    """

    tag_value: ClassVar[str] = "darcy"
    side: int = setting(
        "Cells along each side of the section: the model has side * side unknowns.",
        32,
        minimum=4,
        maximum=64,
    )
    std: float = setting(
        "Standard deviation of the log-permeability under the prior.", 1.0, above=0
    )
    length: float = setting(
        "Correlation length of the prior (Matern, smoothness 3/2), in sides of the section.",
        0.2,
        above=0,
    )
    noise_std: float = setting(
        "Standard deviation of the noise on each pressure; the default is 2 % of the mean pressure"
        " of a homogeneous rock.",
        0.0083,
        above=0,
    )
    mesh: int = setting(
        "Elements along each side at high fidelity, a multiple or a divisor of `side`.",
        32,
        minimum=4,
        maximum=256,
    )
    low_mesh: int = setting("The same at low fidelity.", 16, minimum=4, maximum=256)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


ProblemSettings = Union[
    RosenbrockProblemSettings,
    GaussianProblemSettings,
    LogNormalProblemSettings,
    BimodalProblemSettings,
    TravelTimeProblemSettings,
    WaveformProblemSettings,
    PoissonProblemSettings,
    DarcyProblemSettings,
    SeismicProblemSettings,
    UserProblemSettings,
    PairsOnlyProblemSettings,
]


def has_operator(problem: ProblemSettings) -> bool:
    """Whether F is known, so that it can be evaluated; pairs alone have none."""
    return not isinstance(problem, PairsOnlyProblemSettings)
