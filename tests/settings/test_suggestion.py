"""A misspelt name is answered with the nearest right one, or with what the caller says instead."""

from __future__ import annotations

import pytest

from pflow.settings.suggestion import did_you_mean


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gausian", "did you mean `gaussian`?"),
        ("noise_sdt", "did you mean `noise_std`?"),
        ("velocity", "choose one"),
        (3, "did you mean `32`?"),
    ],
)
def test_the_nearest_choice_or_the_other_text(name, expected):
    assert did_you_mean(name, ["gaussian", "noise_std", 32], otherwise="choose one") == expected


def test_without_a_near_choice_nothing_is_said():
    assert did_you_mean("velocity", []) == ""
