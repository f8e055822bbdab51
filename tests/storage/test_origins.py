"""What made a result is read as it was written, and a file that was changed since is refused by
each way of reading it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pflow.errors import PflowError
from pflow.report.pictures import picture
from pflow.report.runs import Reader
from pflow.storage.origins import (
    InputState,
    Origin,
    file_state,
    find_origins,
    origin_file,
    origin_of,
    read_origin,
    write_origin,
)
from pflow.storage.text_files import read_csv, read_json

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (3).to_bytes(4, "big") + (2).to_bytes(4, "big")


def make(folder: Path, *names: str) -> Origin:
    """Files with an origin beside the first of them."""
    outputs = {name: file_state(folder / name) for name in names}
    origin = Origin("stage", '{"a": 1}', "code", {"../y": InputState("hash", "job")}, outputs)
    write_origin(folder / names[0], origin)
    return origin


def test_an_origin_is_read_as_it_was_written(tmp_path):
    (tmp_path / "posterior.zarr").mkdir()
    root = tmp_path / "posterior.zarr/zarr.json"
    root.write_text("{}")
    origin = make(tmp_path, "posterior.zarr/zarr.json")
    assert origin_file(root) == tmp_path / ".posterior.zarr.origin"
    assert read_origin(root) == origin_of(root) == origin
    assert [*find_origins(tmp_path)] == [(tmp_path, origin)]


def test_a_damaged_origin_says_nothing(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    make(tmp_path, "a.json")
    for text in ("", "{", "[]", '{"stage": 1}'):
        origin_file(tmp_path / "a.json").write_text(text)
        assert read_origin(tmp_path / "a.json") is None


READ: dict[str, tuple[Callable[[Path], object], bytes, bytes]] = {
    "metrics.json": (read_json, b'{"kl": 1}', b'{"kl": 0}'),
    "history.csv": (read_csv, b"step\n1\n", b"step\n2\n"),
    "marginals.png": (lambda file: picture(file, ""), PNG, PNG + b"more"),
    "flow.json": (lambda file: Reader(file.parent).json(file), b'{"a": 1}', b'{"a": 2}'),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_that_was_edited_by_hand_is_refused_with_the_way_out(tmp_path, name):
    read, written, edited = READ[name]
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / name).write_bytes(written)
    assert read(tmp_path / name)  # without an origin nothing can be said
    make(tmp_path, "index.json", name)
    assert read(tmp_path / name)
    (tmp_path / name).write_bytes(edited)
    way_out = f"{re.escape(name)} was changed after it was written: delete it and run snakemake"
    with pytest.raises(PflowError, match=way_out):
        read(tmp_path / name)
