"""Points of a killed run are found again to the bit; damaged ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pflow.storage.kept_points import KeptPoints

POINTS = np.arange(8.0).reshape(4, 2)


def written(path: Path) -> bytes:
    kept = KeptPoints(path, "a", 2)
    for k, point in enumerate(POINTS):
        kept.add(point, 0.1 * k, -point)
    kept.close()
    return path.read_bytes()


def recalled(path: Path, identity: str = "a") -> list[bool]:
    kept = KeptPoints(path, identity, 2)
    kept.close()
    return [kept.find(point) is not None for point in POINTS]


def test_what_was_kept_is_found(tmp_path):
    written(tmp_path / "points")
    kept = KeptPoints(tmp_path / "points", "a", 2)
    kept.close()
    value, gradient = kept.find(POINTS[3])
    assert value == 0.1 * 3
    np.testing.assert_array_equal(gradient, -POINTS[3])
    assert recalled(tmp_path / "points", "b") == [False] * 4, "of other settings"


def test_damage_costs_its_row_alone(tmp_path):
    path, content = tmp_path / "points", bytearray(written(tmp_path / "points"))
    content[-10] ^= 1  # in the last row
    path.write_bytes(content)
    assert recalled(path) == [True, True, True, False]
    path.write_bytes(path.read_bytes()[:-5])
    assert recalled(path) == [True, True, False, False]
    written(path)
    assert recalled(path) == [True] * 4, "it grows behind the sound rows"


def test_a_complete_run_leaves_nothing(tmp_path):
    (tmp_path / "other").write_text("stays")
    kept = KeptPoints(tmp_path / "folder" / "y1" / "points", "a", 2)
    kept.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["other"]
