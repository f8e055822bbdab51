"""SEG-Y files are read as what they are, lines or volumes, in every number format and byte order,
or refused with the way out; none is misread in silence.
"""

from __future__ import annotations

import numpy as np
import pytest

from pflow.errors import PflowError
from pflow.storage.image_patches import ImagePatches
from pflow.storage.seg_y import open_seg_y

segyio = pytest.importorskip("segyio")

IBM, INTEGER, SHORT, IEEE = 1, 2, 3, 5
INLINES, CROSSLINES, DEPTH = 4, 6, 9


def amplitudes(traces: int) -> np.ndarray:
    """(trace, depth), whole numbers, which every format holds exactly."""
    return np.random.default_rng(0).integers(-3000, 3000, (traces, DEPTH)).astype("f4")


def write(path, traces, inline=(), crossline=(), offset=(), format=IEEE, endian="big"):
    """Trace by trace, with the numbers in the trace headers that are given."""
    spec = segyio.spec()
    spec.format, spec.samples, spec.tracecount = format, np.arange(DEPTH), len(traces)
    spec.endian, spec.sorting = endian, None
    numbers = {
        segyio.TraceField.INLINE_3D: inline,
        segyio.TraceField.CROSSLINE_3D: crossline,
        segyio.TraceField.offset: offset,
    }
    with segyio.create(path, spec) as file:
        for number, trace in enumerate(traces):
            file.header[number] = {
                field: int(values[number]) for field, values in numbers.items() if len(values)
            }
            file.trace[number] = trace.astype(file.dtype)
    return path


def read(path) -> np.ndarray:
    """(section, depth, trace)."""
    with open_seg_y(path) as (shape, section):
        stack = np.stack([section(number) for number in range(shape[0])])
    assert stack.shape == shape
    return stack


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("format", [IBM, INTEGER, SHORT, IEEE])
def test_formats_and_byte_orders_give_the_same_line(tmp_path, format, endian):
    traces = amplitudes(5)
    path = write(tmp_path / "line.sgy", traces, format=format, endian=endian)
    np.testing.assert_array_equal(read(path), traces.T[None])


def grid(order: str) -> tuple[np.ndarray, np.ndarray]:
    """Inline and crossline numbers of each trace, sorted by inline or by crossline."""
    numbers = np.meshgrid(100 + np.arange(INLINES), 7 + 2 * np.arange(CROSSLINES), indexing="ij")
    inline, crossline = (n if order == "inline" else n.T for n in numbers)
    return inline.ravel(), crossline.ravel()


@pytest.mark.parametrize("order", ["inline", "crossline"])
def test_volumes_are_stacks_of_inlines(tmp_path, order):
    traces = amplitudes(INLINES * CROSSLINES)
    stack = read(write(tmp_path / "volume.sgy", traces, *grid(order)))
    cells = (
        traces.reshape(INLINES, CROSSLINES, DEPTH)
        if order == "inline"
        else traces.reshape(CROSSLINES, INLINES, DEPTH).swapaxes(0, 1)
    )
    np.testing.assert_array_equal(stack, cells.swapaxes(1, 2))


LINES = {
    "no numbers": ((), ()),
    "inlines alone": (range(1, 9), ()),
    "crosslines alone": ((), range(1, 9)),
    "one inline": ([3] * 8, range(1, 9)),
    "one crossline": (range(1, 9), [3] * 8),
    "across the grid": (range(1, 9), range(20, 28)),
    "slowly across the grid": ([1, 1, 1, 2, 2, 2, 3, 3], range(20, 28)),
}


@pytest.mark.parametrize("case", LINES)
def test_lines_are_one_section(tmp_path, case):
    traces = amplitudes(8)
    np.testing.assert_array_equal(
        read(write(tmp_path / "line.sgy", traces, *LINES[case])), traces.T[None]
    )


def test_a_volume_with_gaps_is_no_line(tmp_path):
    inline, crossline = grid("inline")
    path = write(tmp_path / "gaps.sgy", amplitudes(len(inline) - 1), inline[1:], crossline[1:])
    with pytest.raises(PflowError, match=r"23 traces must fill the grid of their 4 inlines"):
        read(path)


def test_traces_before_stacking_are_refused(tmp_path):
    inline, crossline = (np.repeat(numbers, 2) for numbers in grid("inline"))
    path = write(
        tmp_path / "gathers.sgy",
        amplitudes(len(inline)),
        inline,
        crossline,
        np.tile([100, 200], len(inline) // 2),
    )
    with pytest.raises(PflowError, match="must hold stacked traces, and has 2 offsets"):
        read(path)


def test_other_sample_formats_are_refused(tmp_path):
    path = write(tmp_path / "line.sgy", amplitudes(3))
    content = bytearray(path.read_bytes())
    content[3224:3226] = (4).to_bytes(2, "big")
    path.write_bytes(content)
    with pytest.raises(PflowError, match=r"the sample format \(=4\) must be one of 1, 2, 3, 5, 8"):
        read(path)
    content[3224:3226] = b"\x00\x00"
    path.write_bytes(content)
    with pytest.raises(PflowError, match="cannot be read as SEG-Y .* no sample format"):
        read(path)


def test_a_cut_off_file_is_refused(tmp_path):
    path = write(tmp_path / "line.sgy", amplitudes(3))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(PflowError, match="cannot be read as SEG-Y"):
        read(path)


def test_dead_traces_and_missing_samples_are_left_out_of_images(tmp_path):
    traces = amplitudes(20)
    traces[3], traces[9, 4] = 0.0, np.nan
    file = ImagePatches(write(tmp_path / "line.sgy", traces), "", DEPTH, 2, 1)
    found = {p.trace for p in file.places("train", (0, DEPTH)) if file.read([p])[0] is not None}
    assert found == set(range(15)) - {2, 3, 8, 9}
