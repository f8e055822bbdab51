"""JSON and CSV: whole or not at all, with every digit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pflow.errors import PflowError
from pflow.storage.text_files import read_csv, read_json, write_csv, write_json


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PflowError, match="cannot write to .*file"):
        write_json(tmp_path / "file" / "a.json", {})


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1.5})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1.5}


def test_csv_keeps_digits_and_blanks(tmp_path):
    write_csv(tmp_path / "h.csv", [{"step": 0, "loss": 0.1 + 0.2}, {"step": 1}], ("step", "loss"))
    columns = read_csv(tmp_path / "h.csv")
    assert columns["loss"][0] == 0.1 + 0.2 and np.isnan(columns["loss"][1])


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00\x9c", b"a,b\n1\n", b"a\nx\n", b"a\n\x00\n", b"b\n1\n"]
)
def test_what_is_no_table_is_told(tmp_path, content):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(PflowError, match="history.csv cannot be read as a table of numbers"):
        read_csv(tmp_path / "history.csv", "a")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00\x9c", b"[]", b"7", b"{}", b'{"a": 1', b"[" * 100_000]
)
def test_what_is_no_json_is_told(tmp_path, content):
    (tmp_path / "flow.json").write_bytes(content)
    with pytest.raises(PflowError, match="flow.json cannot be read as JSON .*: delete it and run"):
        read_json(tmp_path / "flow.json", "a")
