r"""Synthetic seismic images by retro-deformation: geological events are undone, the youngest first,
down to flat layers.

Each pixel (z, x) of today's section is moved back to where its rock was deposited:

    faults      slip along a curved plane, dying out away from it, is undone one fault at a time,
                the youngest first
    erosion     above an unconformity lies a younger sequence that has seen less tilting and folding
                than the one below
    folds, tilt the relative geologic time  tau(z, x) = z + s x + sum_k a_k(z) exp(-(x - c_k)^2 / 2
                                            w_k^2) + smooth disturbance

and takes the value of a trace at its tau: sparse, heavy-tailed reflectivity in packages of strong
and weak layers, convolved with a Ricker wavelet that loses its high frequencies with depth. Lateral
changes of amplitude and band-limited noise follow. Images have mean 0 and variance 1. Depth and
lateral distance are in units of the image's height, wavelengths and correlation lengths in pixels.

Two families: `shallow` layers are nearly flat, thin and continuous; `deep` ones are tilted, folded,
faulted, thicker and noisier. The degree of deformation varies from image to image with heavy tails,
and noise varies widely, so a few shallow images are as steep and as noisy as typical deep ones: the
shift from one family to the other is one of frequency, as between the depths of one survey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError

__all__ = ["FAMILIES", "Family", "seismic_images"]

Range = tuple[float, float]

PIXELS_AT_ONCE = 2**20
OVERSAMPLING = 4  # samples of a trace in a pixel, so that linear interpolation is enough
TIMES = (
    -1.5,
    2.5,
)  # relative geologic times that a trace covers; an image covers (0, 1) before it is deformed
PACKAGES = 16  # changes of layering along a trace


@dataclass(frozen=True)
class Family:
    """Parameters of a family of geology. Two numbers are the ends of a uniform distribution over
    images.

    Arguments:
        deformation: median over images of a factor of tilts, folds and throws.
        variability: standard deviation of the logarithm of that factor.
        tilt: standard deviation of the slope of the whole sequence, where the factor is 1.
        fold: standard deviation of the height of a fold, likewise.
        folds: folds in an image.
        faults, fault_probability: faults in an image, at most, and how probable each is.
        throw: slip of a fault, where the factor is 1.
        fault_dip: angle of a fault against the horizontal, degrees.
        unconformity_probability: how probable an erosion surface is.
        period: wavelength of the wavelet's peak frequency, in pixels.
        stretch: factor of that wavelength at the bottom of the image, where attenuation is
            strongest.
        lateral: standard deviation of the logarithm of lateral amplitude changes.
        resolution: standard deviation of the lateral blur of imaging, in pixels; the vertical one
            is half of it.
        signal_to_noise: dB.
    """

    deformation: float
    variability: float
    tilt: float
    fold: float
    folds: int
    faults: int
    fault_probability: float
    throw: Range
    fault_dip: Range
    unconformity_probability: float
    period: Range
    stretch: float
    lateral: float
    resolution: float
    signal_to_noise: Range


FAMILIES = {
    "shallow": Family(
        deformation=1.0, variability=1.0, tilt=0.047, fold=0.012, folds=4,
        faults=3, fault_probability=0.15, throw=(0.005, 0.06), fault_dip=(50, 80),
        unconformity_probability=0.2, period=(6.0, 12.0), stretch=1.3, lateral=0.25,
        resolution=0.7, signal_to_noise=(7, 20),
    ),
    "deep": Family(
        deformation=1.0, variability=0.4, tilt=0.13, fold=0.038, folds=5,
        faults=3, fault_probability=0.5, throw=(0.02, 0.08), fault_dip=(45, 75),
        unconformity_probability=0.4, period=(7.0, 13.0), stretch=1.4, lateral=0.3,
        resolution=0.8, signal_to_noise=(5.5, 11),
    ),
}  # fmt: skip


def seismic_images(
    n: int, height: int, width: int, family: str, generator: torch.Generator | None = None
) -> Float[Tensor, "n height width"]:
    """n independent images of a family, in float32, each of mean 0 and variance 1.

    Raises:
        PflowError: for an unknown family, or an image of fewer than 8 pixels along a side.
    """
    if family not in FAMILIES:
        raise PflowError(f"`geology` (={family!r}) must be one of {', '.join(FAMILIES)}")
    if min(height, width) < 8:
        raise PflowError(
            f"a seismic image must have at least 8 pixels along each side, and {height} x {width}"
            " were asked for"
        )
    size = max(1, PIXELS_AT_ONCE // (height * width))
    section = _Section(height, width, FAMILIES[family], generator)
    return (
        torch.cat([section.draw(min(size, n - first)) for first in range(0, n, size)])
        if n
        else torch.empty(0, height, width)
    )


class _Section:
    """Sections of one size and family; every random number comes from `generator`."""

    def __init__(
        self, height: int, width: int, family: Family, generator: torch.Generator | None
    ) -> None:
        self.height, self.width, self.family, self.generator = height, width, family, generator
        self.depth = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
        self.lateral = ((torch.arange(width) + 0.5) / height)[None].expand(height, width)
        self.extent = width / height
        self.samples = int((TIMES[1] - TIMES[0]) * height * OVERSAMPLING)

    def draw(self, n: int) -> Tensor:
        """A batch, (n, height, width)."""
        family = self.family
        factor = torch.exp(family.variability * self._normal(n)).clamp(max=6.0) * family.deformation
        z, x = self._before_faults(n, factor)
        surface = (
            self._uniform(n, 0.15, 0.7)
            + 0.1 * self._normal(n) * (x - self.extent / 2)
            + 0.03 * self._smooth(n, (1, self.height / 8), 1)
        )
        eroded = self._uniform(n, 0, 1) < family.unconformity_probability
        older = ~eroded | (z > surface)
        period = self._uniform(n, *family.period)
        attenuation = (z * self._uniform(n, 0.3, 1.0)).clamp(0, 1)
        image = torch.zeros(n, self.height, self.width)
        for sequence, share in ((~older, 0.4), (older, 1.0)):
            time = self._geologic_time(n, z, x, share * factor)
            sharp, dull = self._traces(n, period)
            image = image + sequence * torch.lerp(
                _read(sharp, time), _read(dull, time), attenuation
            )
        image = image * torch.exp(
            family.lateral * self._smooth(n, (self.height / 5, self.height / 4))
        )
        noise = 10 ** (-self._uniform(n, *family.signal_to_noise) / 20)
        return _standardised(_standardised(self._blurred(image)) + noise * self._noise(n, period))

    def _before_faults(self, n: int, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Where the rock of each pixel was before the faults, (n, height, width) each."""
        z, x = self.depth.expand(n, -1, -1), self.lateral.expand(n, -1, -1)
        family = self.family
        for _ in range(family.faults):
            side = torch.sign(self._uniform(n, -1, 1))
            dip = torch.deg2rad(self._uniform(n, *family.fault_dip))
            place, depth = self._uniform(n, 0, 1) * self.extent, self._uniform(n, 0.1, 0.9)
            bend = self._uniform(n, -0.3, 0.3)
            across = (
                side * (x - place) - (z - depth) / torch.tan(dip) - bend * (z - 0.5).square()
            )  # distance to its plane
            active = self._uniform(n, 0, 1) < family.fault_probability
            normal_fault = torch.where(self._uniform(n, 0, 1) < 0.8, 1.0, -1.0)
            throw = active * normal_fault * self._uniform(n, *family.throw) * factor.clamp(max=2.0)
            slip = (
                throw
                * torch.sigmoid(3 * self.height * across)
                * torch.exp(-across.clamp_min(0) / self._uniform(n, 0.25, 1.5))
            )
            z, x = z - slip * torch.sin(dip), x - side * slip * torch.cos(dip)
        return z, x

    def _geologic_time(self, n: int, z: Tensor, x: Tensor, factor: Tensor) -> Tensor:
        """tau of one sequence."""
        family = self.family
        time = z + factor * family.tilt * self._normal(n) * (x - self.extent / 2)
        for _ in range(family.folds):
            centre, width = self._uniform(n, -0.1, 1.1) * self.extent, self._uniform(n, 0.08, 0.35)
            shallower = 1 - self._uniform(n, 0, 0.7) * (1 - z)  # folds grow with depth
            time = time + factor * family.fold * self._normal(n) * shallower * torch.exp(
                -((x - centre) / width).square() / 2
            )
        return time + 0.1 * factor * family.fold * self._smooth(
            n, (self.height / 12, self.height / 6)
        )

    def _traces(self, n: int, period: Tensor) -> tuple[Tensor, Tensor]:
        """Two traces of each image from the same reflectivity, (n, samples): with the wavelet at
        the top, and at the bottom.
        """
        layered = (
            torch.rand(n, self.samples, generator=self.generator) < self._uniform(n, 0.2, 0.5)[:, 0]
        )
        strength = (
            torch.randn(n, self.samples, generator=self.generator)
            * torch.rand(n, self.samples, generator=self.generator).square()
        )
        packages = torch.nn.functional.interpolate(
            torch.randn(n, 1, PACKAGES, generator=self.generator), size=self.samples, mode="linear"
        )[:, 0]
        reflectivity = torch.fft.rfft(layered * strength * (1 + 0.6 * torch.tanh(packages)))
        frequency = torch.fft.rfftfreq(self.samples, 1 / OVERSAMPLING)  # cycles in a pixel
        wavelets = (
            _ricker(frequency * period[:, 0] * stretch) for stretch in (1.0, self.family.stretch)
        )
        sharp, dull = (
            torch.fft.irfft(reflectivity * wavelet, n=self.samples) for wavelet in wavelets
        )
        return sharp, dull

    def _noise(self, n: int, period: Tensor) -> Tensor:
        """Noise in the band of the wavelet, laterally a little continuous, of unit variance."""
        kz, kx = torch.fft.fftfreq(self.height)[:, None], torch.fft.rfftfreq(self.width)[None]
        white = torch.fft.rfft2(torch.randn(n, self.height, self.width, generator=self.generator))
        return _standardised(
            torch.fft.irfft2(
                white * _ricker(kz.abs() * period) * torch.exp(-((3 * kx) ** 2)),
                s=(self.height, self.width),
            )
        )

    def _blurred(self, image: Tensor) -> Tensor:
        """The image as waves resolve it: faults and unconformities have no sharp edges."""
        kz, kx = torch.fft.fftfreq(self.height)[:, None], torch.fft.rfftfreq(self.width)[None]
        pass_band = torch.exp(-2 * (math.pi * self.family.resolution) ** 2 * (0.25 * kz**2 + kx**2))
        return torch.fft.irfft2(torch.fft.rfft2(image) * pass_band, s=(self.height, self.width))

    def _smooth(self, n: int, lengths: tuple[float, float], height: int | None = None) -> Tensor:
        """A smooth Gaussian field of unit variance with these correlation lengths (vertical,
        lateral) in pixels.
        """
        height = height or self.height
        kz, kx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(self.width)[None]
        pass_band = torch.exp(
            -((math.pi * lengths[0] * kz) ** 2) - (math.pi * lengths[1] * kx) ** 2
        )
        white = torch.fft.rfft2(torch.randn(n, height, self.width, generator=self.generator))
        return _standardised(torch.fft.irfft2(white * pass_band, s=(height, self.width)))

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=self.generator)

    def _normal(self, n: int) -> Tensor:
        return torch.randn(n, 1, 1, generator=self.generator)


def _ricker(relative_frequency: Tensor) -> Tensor:
    """Amplitude spectrum of a Ricker wavelet, 1 at its peak, by frequency over peak frequency."""
    squared = relative_frequency.square()
    return squared * torch.exp(1 - squared)


def _read(traces: Tensor, time: Tensor) -> Tensor:
    """Values of each trace at its times, by linear interpolation."""
    n, samples = traces.shape
    place = ((time - TIMES[0]) / (TIMES[1] - TIMES[0]) * (samples - 1)).clamp(0, samples - 1.001)
    before = place.long()
    left, right = (
        traces.gather(1, (before + shift).reshape(n, -1)).view_as(time) for shift in (0, 1)
    )
    return torch.lerp(left, right, place - before)


def _standardised(images: Tensor) -> Tensor:
    """Each image with mean 0 and variance 1."""
    images = images - images.mean((1, 2), keepdim=True)
    return images / images.std((1, 2), correction=0, keepdim=True).clamp_min(1e-6)
