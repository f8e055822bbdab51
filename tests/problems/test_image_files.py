"""Seismic images of your own: every format gives the same patches, and parts of the file never
mix.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.errors import PflowError
from pflow.problems.image_files import ImageFile

SECTIONS, DEPTH, TRACES = 20, 40, 60


def numbered() -> np.ndarray:
    """Each value says where it lies, so that patches can be traced back."""
    section, depth, trace = np.mgrid[0:SECTIONS, 0:DEPTH, 0:TRACES]
    return (section * 10000 + depth * 100 + trace).astype("f4")


def patches(file: ImageFile, split: str, rows=(0, DEPTH), n=6, seed=0) -> torch.Tensor:
    return file.draw(n, split, rows, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "stack.npy"
    np.save(path, numbered())
    return path


def test_patches_are_whitened_and_different(stack):
    found = patches(ImageFile(stack, "x", 8, 8, 4), "train", n=50)
    torch.testing.assert_close(found.mean((1, 2)), torch.zeros(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((1, 2), correction=0), torch.ones(50), atol=1e-5, rtol=0)
    assert torch.equal(found, patches(ImageFile(stack, "x", 8, 8, 4), "train", n=50))


def places(file: ImageFile, split: str, rows=(0, DEPTH)) -> set[tuple[int, int, int]]:
    return set(file.places(split, rows))


def test_sections_are_split_and_never_shared(stack):
    file = ImageFile(stack, "x", 8, 8, 4)
    parts = {
        split: {section for section, *_ in places(file, split)}
        for split in ("train", "validation", "test")
    }
    assert parts == {"train": set(range(16)), "validation": {16, 17}, "test": {18, 19}}


def test_columns_are_split_where_sections_are_few(tmp_path):
    np.save(tmp_path / "line.npy", numbered()[:1])
    file = ImageFile(tmp_path / "line.npy", "x", 4, 4, 1)
    columns = {
        split: {c for _, _, trace in places(file, split) for c in range(trace, trace + 4)}
        for split in ("train", "validation", "test")
    }
    assert (
        columns["train"] == set(range(48))
        and columns["validation"] == set(range(48, 54))
        and columns["test"] == set(range(54, 60))
    )


def test_rows_bound_the_depths_of_every_pixel(stack):
    file = ImageFile(stack, "x", 8, 8, 3)
    found = places(file, "train", (10, 30))
    assert min(row for _, row, _ in found) == 10 and max(row + 8 for _, row, _ in found) <= 30
    with pytest.raises(PflowError, match="must lie within 0 to 40"):
        patches(file, "train", (30, 50))


def test_every_format_gives_the_same_patches(stack, tmp_path):
    import zarr

    np.savez(tmp_path / "stack.npz", x=numbered(), other=np.zeros(3))
    group = zarr.create_group(tmp_path / "stack.zarr")
    group.create_array("x", data=numbered())
    expected = patches(ImageFile(stack, "x", 8, 8, 4), "train")
    for name in ("stack.npz", "stack.zarr"):
        torch.testing.assert_close(
            patches(ImageFile(tmp_path / name, "x", 8, 8, 4), "train"), expected
        )


def test_segy_volumes_and_lines_give_the_same_patches(stack, tmp_path):
    segyio = pytest.importorskip("segyio")
    segyio.tools.from_array(
        str(tmp_path / "volume.sgy"), np.ascontiguousarray(numbered().transpose(0, 2, 1)), format=5
    )
    segyio.tools.from_array(
        str(tmp_path / "line.segy"), np.ascontiguousarray(numbered()[0].T), format=5
    )
    volume = ImageFile(tmp_path / "volume.sgy", "", 8, 8, 4)
    assert (volume.sections, volume.depth, volume.traces) == (SECTIONS, DEPTH, TRACES)
    torch.testing.assert_close(
        patches(volume, "train"), patches(ImageFile(stack, "x", 8, 8, 4), "train")
    )
    line = ImageFile(tmp_path / "line.segy", "", 8, 8, 4)
    assert (line.sections, line.depth, line.traces) == (1, DEPTH, TRACES)
    np.save(tmp_path / "line.npy", numbered()[:1])
    torch.testing.assert_close(
        patches(line, "train"), patches(ImageFile(tmp_path / "line.npy", "x", 8, 8, 4), "train")
    )


def test_one_section_is_a_stack_of_one(tmp_path):
    np.save(tmp_path / "section.npy", numbered()[0])
    np.save(tmp_path / "stack.npy", numbered()[:1])
    section, stack = (ImageFile(tmp_path / f"{n}.npy", "x", 8, 8, 4) for n in ("section", "stack"))
    assert (section.sections, section.depth, section.traces) == (1, DEPTH, TRACES)
    torch.testing.assert_close(patches(section, "train"), patches(stack, "train"), rtol=0, atol=0)


def test_patches_that_touch_a_dead_trace_are_left_out(tmp_path):
    """Of 48 training columns, those of patches of 8 that begin at 8, 9, ... 15 touch trace 15."""
    values = np.random.default_rng(0).standard_normal((1, DEPTH, TRACES)).astype("f4")
    values[:, :, 15] = -7.5
    np.save(tmp_path / "dead.npy", values)
    file = ImageFile(tmp_path / "dead.npy", "x", DEPTH, 8, 1)
    used = {
        place.trace
        for place in file.places("train", (0, DEPTH))
        if file.read([place])[0] is not None
    }
    assert used == set(range(41)) - set(range(8, 16))
    assert file.count("train", (0, DEPTH), 100) == len(used)
    assert file.count("train", (0, DEPTH), 5) == 5


def test_blank_patches_and_missing_samples_are_left_out(tmp_path):
    values = np.random.default_rng(0).standard_normal((10, 8, 24)).astype("f4")
    values[:, :, :8] = 0.0
    values[:, 3, 10] = np.nan
    np.save(tmp_path / "gaps.npy", values)
    file = ImageFile(tmp_path / "gaps.npy", "x", 8, 8, 8)
    assert torch.isfinite(patches(file, "train", (0, 8), n=8)).all()
    with pytest.raises(
        PflowError, match="gives 8 train images of 8 x 8 at rows 0 to 8, and 9 are wanted"
    ):
        patches(file, "train", (0, 8), n=9)


def test_mistakes_are_named(stack, tmp_path):
    with pytest.raises(PflowError, match="does not exist"):
        ImageFile(tmp_path / "nothing.npy", "x", 8, 8, 4)
    with pytest.raises(PflowError, match="smaller than an image of 64 x 64"):
        ImageFile(stack, "x", 64, 64, 4)
    np.save(tmp_path / "row.npy", np.zeros(4))
    with pytest.raises(PflowError, match=r"its array must be a stack .* has the shape \(4,\)"):
        ImageFile(tmp_path / "row.npy", "x", 2, 2, 1)
    np.savez(tmp_path / "four.npz", x=np.zeros((2, 1, 4, 4)))
    with pytest.raises(PflowError, match="`x` must be a stack"):
        ImageFile(tmp_path / "four.npz", "x", 2, 2, 1)
    (tmp_path / "broken.sgy").write_bytes(b"no")
    pytest.importorskip("segyio")
    with pytest.raises(PflowError, match="cannot be read as SEG-Y"):
        ImageFile(tmp_path / "broken.sgy", "", 8, 8, 4)
