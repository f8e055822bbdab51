"""A configuration file that YAML would take in another meaning is refused, with its line."""

from __future__ import annotations

import pytest

from pflow.errors import PflowError
from pflow.pipeline.checks import check_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: {c: 1}\na: 2\n", "line 3: the key `a` stands here again, after line 1"),
        ("a:\n  - b: 1\n    b: 2\n", "line 3: the key `b` stands here again, after line 2"),
        ("a: &x\n  b: *x\n", "an anchor holds itself"),
        ("a: &x [1, *x]\n", "an anchor holds itself"),
    ],
)
def test_repeated_keys_and_recursive_anchors_are_refused(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(PflowError, match=expected):
        check_yaml(tmp_path / "c.yaml")


def test_shared_anchors_and_merged_keys_are_no_mistake(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}\ne: [*x, *x]\n")
    check_yaml(tmp_path / "c.yaml")
