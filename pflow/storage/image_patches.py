"""Patches of image files: stacks of sections, SEG-Y lines and volumes, cut by depth.

Neighbouring patches show the same rock, so training, validation and test images never share a
section (where there are `SECTIONS` or more) or, of fewer sections, a block of columns: the first 80
% are for training, the next 10 % for validation, the last 10 % for tests and true models of
observations. A patch is left out if it is blank, has missing samples, or touches a dead trace, one
that is constant from top to bottom.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pflow.errors import PflowError
from pflow.storage.formats import header, open_array
from pflow.storage.seg_y import SEG_Y, Reader, Shape, open_seg_y

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ImagePatches", "Place", "Split"]

Split = Literal["train", "validation", "test"]
PARTS: dict[str, tuple[float, float]] = {
    "train": (0.0, 0.8),
    "validation": (0.8, 0.9),
    "test": (0.9, 1.0),
}
SECTIONS = 10  # from so many on, sections are split instead of columns
SMALLEST_STD = 1e-6  # of the largest amplitude of its section: a patch below it is blank
COUNTED = 2**27  # samples of all patches together that are looked at to count them


class Place(NamedTuple):
    """Where a patch begins."""

    section: int
    row: int
    trace: int


class ImagePatches:
    """Patches of one file.

    Arguments:
        path: a SEG-Y file (`.sgy`, `.segy`; sections are inlines, or all traces of a 2-D line), or
            a stack of sections (section, depth, trace), or one section (depth, trace), as .npy,
            .npz, Zarr, NetCDF or HDF5.
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
        with self._open() as (shape, _):
            self.sections, self.depth, self.traces = shape
        if self.depth < height or self.traces < width:
            raise PflowError(
                f"{self.path} has sections of {self.depth} x {self.traces} samples, smaller than an"
                f" image of {height} x {width}: set a smaller `problem.height` and `problem.width`"
            )

    def count(self, split: Split, rows: tuple[int, int], enough: int) -> int:
        """How many different patches a split has at these rows; `enough` if there are as many or
        more. Of a part that is too large to be read for this, an upper bound: those left out count.

        Raises:
            PflowError: the rows are outside of the file.
        """
        places = self.places(split, rows)
        if len(places) * self.height * self.width > COUNTED:
            return min(enough, len(places))
        usable = (place for place, patch in self._views(places) if patch is not None)
        return sum(1 for _ in itertools.islice(usable, enough))

    def places(self, split: Split, rows: tuple[int, int]) -> list[Place]:
        """Where the patches of a split begin, those left out included.

        Arguments:
            split: the part of the file.
            rows: first row and the row after the last, of the depths that patches may touch.

        Raises:
            PflowError: the rows are outside of the file.
        """
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
            Place(section, row, trace)
            for section in sections
            for row in range(first_row, end_row - self.height + 1, self.stride)
            for trace in range(traces[0], traces[1] - self.width + 1, self.stride)
        ]

    def read(self, places: list[Place]) -> list[np.ndarray | None]:
        """The patches, in the order of `places`, as they lie in the file; None for one that is left
        out. Each section is read once.
        """
        patches = {
            place: None if patch is None else patch.copy()  # A view would keep its whole section.
            for place, patch in self._views(places)
        }
        return [patches[place] for place in places]

    def _views(self, places: list[Place]) -> Iterator[tuple[Place, np.ndarray | None]]:
        """Each place and its patch, section by section."""
        import numpy

        with self._open() as (_, section_of):
            for number, in_section in itertools.groupby(sorted(places), lambda p: p.section):
                section = numpy.asarray(section_of(number), dtype=numpy.float32)
                finite = numpy.isfinite(section)
                smallest = SMALLEST_STD * numpy.abs(section[finite]).max(initial=0.0)
                dead = (section == section[0]).all(0)
                # How many lie above and to the left of each corner.
                bad = numpy.pad((~finite | dead).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
                for place in in_section:
                    top, left = place.row, place.trace
                    bottom, right = top + self.height, left + self.width
                    patch = section[top:bottom, left:right]
                    within = (
                        bad[bottom, right] - bad[top, right] - bad[bottom, left] + bad[top, left]
                    )
                    usable = not within and patch.std() > smallest
                    yield place, patch if usable else None

    @contextmanager
    def _open(self) -> Iterator[tuple[Shape, Reader]]:
        """Shape (section, depth, trace), and a function that reads one section."""
        if self.path.suffix.lower() in SEG_Y:
            with open_seg_y(self.path) as sections:
                yield sections
            return
        name, stored = header(self.path, self.array, "problem.array")
        if len(stored.shape) not in (2, 3) or not math.prod(stored.shape):
            raise PflowError(
                f"{self.path}: {f'`{name}`' if name else 'its array'} must be a stack (section,"
                f" depth, trace) or one section (depth, trace), and has the shape {stored.shape}:"
                " bring it to one of these"
            )
        with open_array(self.path, name) as stack:
            if len(stored.shape) == 2:
                yield (1, *stored.shape), lambda number: stack[...]  # type: ignore[misc]
            else:
                yield stored.shape, lambda number: stack[number]  # type: ignore[misc]
