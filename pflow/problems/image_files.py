"""Seismic images of your own: stacks of sections, SEG-Y lines and volumes, cut into patches by
depth.

Neighbouring patches show the same rock, so training, validation and test images never share a
section (where there are `SECTIONS` or more) or, of fewer sections, a block of columns: the first 80
% are for training, the next 10 % for validation, the last 10 % for tests and true models of
observations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.storage.formats import header, open_array

__all__ = ["ImageFile", "Split"]

Split = Literal["train", "validation", "test"]
PARTS: dict[str, tuple[float, float]] = {
    "train": (0.0, 0.8),
    "validation": (0.8, 0.9),
    "test": (0.9, 1.0),
}
SECTIONS = 10  # from so many on, sections are split instead of columns
SEG_Y = (".sgy", ".segy")
SMALLEST_STD = 1e-6  # of the largest amplitude of its section: a patch below it is blank


class ImageFile:
    """Patches of one file.

    Arguments:
        path: a SEG-Y file (`.sgy`, `.segy`; sections are inlines, or all traces of a 2-D line), or
            a stack of sections (section, depth, trace) as .npy, .npz, Zarr, NetCDF or HDF5.
        array: name of the stack, where the file has several arrays.
        height, width: of a patch.
        stride: steps between patches, along depth and traces.

    Raises:
        PflowError: a missing or unreadable file, or one whose sections are smaller than a patch.
    """

    def __init__(self, path: str | Path, array: str, height: int, width: int, stride: int) -> None:
        self.path, self.array, self.height, self.width, self.stride = (
            Path(path),
            array,
            height,
            width,
            stride,
        )
        if not self.path.exists():
            raise PflowError(
                f"`problem.images` (={self.path}) does not exist: give the path of a SEG-Y file or"
                " of a stack of images, from the folder where you run pflow"
            )
        with self._sections() as sections:
            self.sections, self.depth, self.traces = sections.shape
        if self.depth < height or self.traces < width:
            raise PflowError(
                f"{self.path} has sections of {self.depth} x {self.traces} samples, smaller than an"
                f" image of {height} x {width}: set a smaller `problem.height` and `problem.width`"
            )

    def draw(
        self, n: int, split: Split, rows: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "n height width"]:
        """n different patches of a part of the file, in random order, each with mean 0 and variance
        1; blank ones are left out.

        Arguments:
            n: number of patches.
            split: the part of the file.
            rows: first row and the row after the last, of the depths that patches may touch.
            generator: of the order; None for torch's own.

        Raises:
            PflowError: for rows outside of the file, or too few patches.
        """
        places = self._places(split, rows)
        order = torch.randperm(len(places), generator=generator).tolist()
        patches: list[np.ndarray] = []
        while order and len(patches) < n:
            wanted, order = order[: n - len(patches)], order[n - len(patches) :]
            patches += [
                patch for patch in self._read([places[i] for i in wanted]) if patch is not None
            ]
        if len(patches) < n:
            raise PflowError(
                f"{self.path} gives {len(patches)} {split} images of {self.height} x {self.width}"
                f" at rows {rows[0]} to {rows[1]}, and {n} are wanted: lower `problem.stride`"
                f" (={self.stride}), widen the rows, or ask for fewer in `simulate`"
            )
        return torch.from_numpy(np.stack(patches))

    def _places(self, split: Split, rows: tuple[int, int]) -> list[tuple[int, int, int]]:
        """(section, first row, first trace) of each patch."""
        first_row, end_row = rows
        if not 0 <= first_row < end_row <= self.depth or end_row - first_row < self.height:
            raise PflowError(
                f"rows {first_row} to {end_row} of {self.path} must lie within 0 to {self.depth}"
                f" and hold an image of {self.height} rows: correct them"
            )
        low, high = PARTS[split]
        by_section = self.sections >= SECTIONS
        sections = (
            range(round(low * self.sections), round(high * self.sections))
            if by_section
            else range(self.sections)
        )
        traces = (
            (0, self.traces)
            if by_section
            else (round(low * self.traces), round(high * self.traces))
        )
        return [
            (section, row, trace)
            for section in sections
            for row in range(first_row, end_row - self.height + 1, self.stride)
            for trace in range(traces[0], traces[1] - self.width + 1, self.stride)
        ]

    def _read(self, places: list[tuple[int, int, int]]) -> list[np.ndarray | None]:
        """The patches, in the order of `places`; each section is read once."""
        patches: dict[tuple[int, int, int], np.ndarray | None] = {}
        with self._sections() as sections:
            for number in sorted({place[0] for place in places}):
                section = sections[number]
                smallest = SMALLEST_STD * np.abs(section[np.isfinite(section)]).max(initial=0.0)
                for place in (place for place in places if place[0] == number):
                    _, row, trace = place
                    patches[place] = _whitened(
                        section[row : row + self.height, trace : trace + self.width], smallest
                    )
        return [patches[place] for place in places]

    @contextmanager
    def _sections(self) -> Iterator[_Sections]:
        if self.path.suffix.lower() in SEG_Y:
            with _seg_y(self.path) as sections:
                yield sections
            return
        name, stored = header(self.path, self.array, "problem.array")
        if len(stored.shape) != 3:
            raise PflowError(
                f"{self.path}: `{name}` must be a stack (section, depth, trace), and has the shape"
                f" {stored.shape}: add the axes that it lacks"
            )
        with open_array(self.path, name) as stack:
            yield _Sections(stored.shape, lambda number: stack[number])


class _Sections:
    """Sections of a file, read one at a time as (depth, trace)."""

    def __init__(self, shape: tuple[int, int, int], read: Any) -> None:
        self.shape, self._read = shape, read

    def __getitem__(self, number: int) -> np.ndarray:
        return np.asarray(self._read(number), dtype=np.float32)


@contextmanager
def _seg_y(path: Path) -> Iterator[_Sections]:
    """Inlines of a volume, or the one section of a line whose headers have no inlines and
    crosslines.
    """
    try:
        import segyio
    except ImportError as error:
        raise PflowError(
            f"{path} is a SEG-Y file, and the library that reads them is not installed: pip install"
            " 'pflow[seismic]'"
        ) from error
    try:
        file = segyio.open(str(path), strict=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise PflowError(f"{path} cannot be read as SEG-Y ({error}): check the file") from error
    with file:
        if file.unstructured or len(file.ilines) < 2:
            yield _Sections(
                (1, len(file.samples), file.tracecount), lambda number: file.trace.raw[:].T
            )
        else:
            lines = [int(line) for line in file.ilines]
            yield _Sections(
                (len(lines), len(file.samples), len(file.xlines)),
                lambda number: file.iline[lines[number]].T,
            )


def _whitened(patch: np.ndarray, smallest: float) -> np.ndarray | None:
    """With mean 0 and variance 1; None for a blank patch or one with missing samples."""
    if not np.isfinite(patch).all() or patch.std() <= smallest:
        return None
    return (patch - patch.mean()) / patch.std()
