"""SEG-Y files as sections: the inlines of a volume, or the one section of a line.

Byte order and number format come from the file. Where the trace headers of a volume leave gaps in
the grid of inlines and crosslines, or hold several offsets, the file is refused instead of being
read as one long line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pflow.errors import PflowError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SEG_Y", "open_seg_y"]

SEG_Y = (".sgy", ".segy")
FORMAT_AT = 3224  # bytes before the sample format in the header of the file
# Codes of SEG-Y revision 2: 4-byte IBM float, integers of 4, 2 and 1 bytes, 4-byte IEEE float.
READ = (1, 2, 3, 5, 8)
KNOWN = range(1, 17)

Shape = tuple[int, int, int]
Reader = Callable[[int], "np.ndarray"]


@contextmanager
def open_seg_y(path: Path) -> Iterator[tuple[Shape, Reader]]:
    """The shape (section, depth, trace), and a function that reads one section as (depth, trace).

    Raises:
        PflowError: the file is damaged or no SEG-Y, its samples have a format that is not read, its
            traces fill no grid, or they are not stacked.
    """
    try:
        import segyio
    except ImportError as error:
        raise PflowError(
            f"{path} is a SEG-Y file, and the library that reads them is not installed: pip install"
            " 'pflow[seismic]'"
        ) from error
    order = _byte_order(path)
    try:
        file = segyio.open(str(path), strict=False, endian=order)
    except (OSError, RuntimeError, ValueError) as error:
        raise PflowError(f"{path} cannot be read as SEG-Y ({error}): check the file") from error
    with file:
        if _is_line(path, file):
            yield (
                (1, len(file.samples), file.tracecount),
                lambda number: file.trace.raw[:].T,
            )
        else:
            lines = [int(line) for line in file.ilines]
            yield (
                (len(lines), len(file.samples), len(file.xlines)),
                lambda number: file.iline[lines[number]].T,
            )


def _byte_order(path: Path) -> str:
    """`big` or `little`: the order in which the sample format is a code of the standard."""
    try:
        with path.open("rb") as stream:
            stream.seek(FORMAT_AT)
            code = stream.read(2)
    except OSError as error:
        raise PflowError(f"{path} cannot be read as SEG-Y ({error}): check the file") from error
    for order in ("big", "little"):
        number = int.from_bytes(code, order)  # type: ignore[arg-type]
        if len(code) == 2 and number in KNOWN:
            if number in READ:
                return order
            raise PflowError(
                f"{path}: the sample format (={number}) must be one of"
                f" {', '.join(map(str, READ))} (IBM or IEEE floats of 4 bytes, integers of 4, 2 or"
                " 1): convert the file, to IEEE floats (5) for example"
            )
    raise PflowError(
        f"{path} cannot be read as SEG-Y (its bytes {FORMAT_AT} and {FORMAT_AT + 1}, {code!r}, are"
        " no sample format in either byte order): check the file"
    )


def _is_line(path: Path, file: Any) -> bool:
    """Whether all traces are one section; false for a volume with inlines and crosslines.

    Raises:
        PflowError: the traces are neither.
    """
    import segyio

    if not file.unstructured:
        if len(file.offsets) > 1:
            raise PflowError(
                f"{path} must hold stacked traces, and has {len(file.offsets)} offsets at each"
                " place: stack them, or write one offset to a file"
            )
        return min(len(file.ilines), len(file.xlines)) < 2
    inlines, crosslines = (
        {int(number) for number in file.attributes(field)[:]}
        for field in (segyio.TraceField.INLINE_3D, segyio.TraceField.CROSSLINE_3D)
    )
    # A line through a grid crosses at most as many cells as the grid has rows and columns.
    if file.tracecount <= len(inlines) + len(crosslines) or min(len(inlines), len(crosslines)) < 2:
        return True
    raise PflowError(
        f"{path}: {file.tracecount} traces must fill the grid of their {len(inlines)} inlines"
        f" ({min(inlines)} to {max(inlines)}) and {len(crosslines)} crosslines"
        f" ({min(crosslines)} to {max(crosslines)}; bytes 189 and 193 of the trace headers) and do"
        " not: cut the volume to a rectangle, or fill it up with traces of zeros"
    )
