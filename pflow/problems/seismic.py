"""Compressed sensing of seismic images: learnt from shallow geology, wanted for deep geology (the
paper's second experiment).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.romberg import RombergOperator
from pflow.problems.base import Problem
from pflow.problems.geology import seismic_images
from pflow.problems.image_files import ImageFile, Split
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["Seismic"]


class Seismic(Problem):
    r"""Compressed sensing of seismic images, learnt from shallow geology and wanted for deep
    geology (the paper's second experiment).

    An image x, (1, height, width), is seen through a random convolution of which one entry in
    `ratio` is kept:

    .. math::
        y = A x + \sigma \epsilon

    with A as `RombergOperator` defines it. Low and high fidelity have the same operator and differ
    in the geology: pairs show shallow layers, observations deep ones. Training images come from a
    generator or from a file, so their distribution has no density; fine-tuning needs one of the
    priors that are estimated from them (`pflow.config.priors`).

    Arguments:
        height: rows of an image, its depth.
        width: columns of an image, its traces.
        ratio: parameters for each measurement: 2 keeps half of the entries of the random
            convolution.
        measurements: whether the data are the measurements themselves; false: their
            back-projection, an image, as in the paper.
        noise_std: standard deviation of the independent Gaussian noise on y; images have the
            standard deviation 1.
        operator_seed: seed of the random convolution.
        training: geology of the pairs.
        target: geology of the observations' true models.
        images: your own seismic sections instead of the generator: SEG-Y (a line, or a volume with
            its inlines), or a stack (section, depth, trace) or one section (depth, trace) as .npy,
            .npz, Zarr, NetCDF or HDF5. The path starts in the folder where you run pflow.
        array: name of the stack in that file, where it has several arrays.
        training_rows: depths of the training images in samples, [first, one after the last].
        target_rows: depths of the observations' true models, likewise.
        stride: samples and traces between neighbouring images cut from the file.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Seismic(height=8, width=8)
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 1, 8, 8]))
    """

    name = "seismic"
    field_label = "reflectivity"
    field_unit = "pixel"

    @staticmethod
    def model_shape_of(height: int, width: int) -> tuple[int, ...]:
        """The shape of one x."""
        return (1, height, width)

    @checked_settings
    def __init__(
        self,
        height: Annotated[int, setting(minimum=8, maximum=4096)] = 32,
        width: Annotated[int, setting(minimum=8, maximum=4096)] = 32,
        ratio: Annotated[float, setting(minimum=1)] = 2.0,
        measurements: bool = False,
        noise_std: Annotated[float, setting(above=0)] = 0.2,
        operator_seed: Annotated[int, setting(minimum=0)] = 0,
        training: Literal["shallow", "deep"] = "shallow",
        target: Literal["shallow", "deep"] = "deep",
        images: str | None = None,
        array: str = "x",
        training_rows: Sequence[int] | None = None,
        target_rows: Sequence[int] | None = None,
        stride: Annotated[int, setting(minimum=1, maximum=4096)] = 32,
    ) -> None:
        operator = RombergOperator(
            self.model_shape_of(height, width),
            ratio,
            seed=operator_seed,
            measurements=measurements,
        )
        names = [f"x[{row},{column}]" for row in range(height) for column in range(width)]
        super().__init__(operator, operator, noise_std, names)
        self.field_shape = (height, width)
        self.field_extent = (0.0, float(width), float(height), 0.0)  # left, right, bottom, top
        self.families = (training, target)
        self.split: Split = "train"
        self.file: ImageFile | None = None
        if images is not None:
            self.file = ImageFile(images, array, height, width, stride)
            self.rows = _rows("training_rows", training_rows), _rows("target_rows", target_rows)

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n 1 height width"]:
        """Training images: of the generator, or different patches of the file from this split."""
        if self.file is not None:
            return self.file.draw(n, self.split, self.rows[0], generator)[:, None].to(dtype)
        return seismic_images(n, *self.field_shape, self.families[0], generator)[:, None].to(dtype)

    def sample_truth(
        self, n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n 1 height width"]:
        """True models of observations: of the target geology; of a file, from its test part and the
        target depths.
        """
        if self.file is not None:
            return self.file.draw(n, "test", self.rows[1], generator)[:, None]
        return seismic_images(n, *self.field_shape, self.families[1], generator)[:, None]

    def for_split(self, split: Split) -> Seismic:
        """The problem with the training images of one split."""
        part = copy.copy(self)
        part.split = split
        return part

    def log_prior(self, x: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, " batch"]:
        """Not known.

        Raises:
            PflowError: always, with the way out.
        """
        raise PflowError(
            "the problem `seismic` has images to learn from and no formula for their density: set"
            " the `prior` of the experiment or of the method to `{name: flow, flow: ...}`, `{name:"
            " gaussian}` or `{name: lowfi_posterior}`"
        )


def _rows(name: str, rows: Sequence[int] | None) -> tuple[int, int]:
    if rows is None or len(rows) != 2:
        raise PflowError(
            f"`problem.{name}` (={rows}) must say the depths of the images in samples, as [first,"
            " one after the last]: the file in `problem.images` needs it"
        )
    return int(rows[0]), int(rows[1])
