"""The words for what differs between two settings."""

from __future__ import annotations

import json

import pytest

from pflow.pipeline.settings_difference import settings_difference


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"problem": {"noise_std": 0.4}}, {"problem": {"noise_std": 0.8}},
         "problem.noise_std 0.4 -> 0.8"),
        ({"a": 1}, {"a": 1, "b": "x"}, 'b null -> "x"'),
        ({"a": [1, 2]}, {"a": [1]}, "a [1, 2] -> [1]"),
        ({"a": "o" * 99}, {"a": 1}, 'a "' + "o" * 39 + "... -> 1"),
        (dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2),
         "a 1 -> 2, b 1 -> 2, c 1 -> 2, and 2 more"),
    ],
)  # fmt: skip
def test_it_names_the_setting_and_both_values(old, new, words):
    assert settings_difference(json.dumps(old), json.dumps(new)) == words
