"""What a problem's signature declares is checked whenever its class is called."""

from __future__ import annotations

import inspect
from typing import Annotated, Literal

import numpy as np
import pytest

from pflow.errors import PflowError
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting


class Declared:
    @checked_settings
    def __init__(
        self,
        count: Annotated[int, setting(minimum=2)],
        share: Annotated[float, setting(above=0, maximum=1)] = 0.5,
        width: Annotated[float, setting(above=0)] = 1.0,
        shift: float = 0.0,
        kind: Literal["a", "b"] = "a",
        rows: list[int] | None = None,
    ) -> None:
        self.values = count, share, width, shift, kind, rows


def test_values_within_the_bounds_pass_as_plain_numbers():
    assert Declared(2).values == (2, 0.5, 1.0, 0.0, "a", None)
    values = Declared(np.int64(3), np.float64(1.0), width=2, kind="b", rows=[1]).values
    assert values == (3, 1.0, 2.0, 0.0, "b", [1])
    assert [type(value) for value in values[:4]] == [int, float, float, float]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"count": 1}, r"`problem.count` \(=1\) must be a whole number from 2:"),
        ({"count": True}, r"`problem.count` \(=True\) must be a whole number from 2:"),
        ({"share": 0}, "`problem.share` .* must be a finite number greater than 0 and at most 1:"),
        (
            {"share": 1.5},
            "`problem.share` .* must be a finite number greater than 0 and at most 1:",
        ),
        ({"width": -1.0}, "`problem.width` .* must be a positive number:"),
        ({"shift": float("nan")}, "`problem.shift` .* must be a finite number:"),
    ],
)
def test_values_outside_are_refused(arguments, expected):
    with pytest.raises(PflowError, match=expected):
        Declared(**{"count": 2} | arguments)


def test_positional_arguments_are_checked_too():
    with pytest.raises(PflowError, match="`problem.share`"):
        Declared(2, 2.0)


def test_the_signature_stays_visible():
    assert list(inspect.signature(Declared).parameters)[:2] == ["count", "share"]
