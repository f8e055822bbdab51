"""The posterior with the best verdict at each observation: its figures and its table of
intervals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pflow.report.numbers import Cell, format_number
from pflow.report.trust import LEVELS, SYMBOLS

__all__ = ["INTERVALS", "beside", "best_posteriors"]

# name in the index of the figures: heading
INTERVALS = {
    "mean": "Mean",
    "std": "Std",
    "q05": "5 %",
    "q25": "25 %",
    "median": "Median",
    "q75": "75 %",
    "q95": "95 %",
    "prior_q05": "Prior 5 %",
    "prior_q95": "Prior 95 %",
    "contraction": "Contraction",
    "true_value": "True value",
}


def best_posteriors(
    best: Mapping[str, Mapping[str, Any]],
    pictures: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    others: Collection[str] = (),
) -> list[dict[str, Any]]:
    """What the template shows of each observation.

    Arguments:
        best: of each observation, as the stage `figures` has written it.
        pictures: of the experiment.
        labels: of the methods.
        others: methods under another prior than the experiment's.
    """
    by_name = {shown["name"]: shown for shown in pictures}
    return [
        {
            "observation": observation,
            "label": labels.get(entry["method"], entry["method"]),
            "verdict": _verdict(entry["verdict"]),
            "among": _among(entry["method"], others),
            "figures": [by_name[name] for name in entry["figures"] if name in by_name],
            "columns": _columns(entry["intervals"]),
            "rows": [_row(row) for row in entry["intervals"]],
            "parameters": entry["parameters"],
        }
        for observation, entry in best.items()
    ]


def _among(method: str, others: Collection[str]) -> str:
    """What the method is the best of, where methods have several priors."""
    if method in others:
        return (
            " under a prior of its own (no method under the experiment's prior has a posterior that"
            " can be used)"
        )
    return " under the experiment's prior" if others else ""


def beside(value: float, spread: float) -> str:
    r"""A value to two digits of its standard deviation.

    >>> beside(1234.56789, 0.021), beside(0.5, 200.0)
    ('1\u202f234.568', '0.5')
    """
    if not (math.isfinite(value) and value and spread > 0):
        return format_number(value)
    digits = math.floor(math.log10(abs(value))) - math.floor(math.log10(spread)) + 2
    return format_number(value, min(max(digits, 1), 12))


def _verdict(text: str) -> dict[str, Any] | None:
    if text not in LEVELS:
        return None
    level = LEVELS.index(text)
    return {"level": level, "symbol": SYMBOLS[level], "text": text, "seeds": "", "reasons": []}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Those that a row has."""
    return {key: text for key, text in INTERVALS.items() if any(key in row for row in rows)}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    cells = {}
    for key in INTERVALS:
        value = row.get(key)
        if value is None:
            cells[key] = Cell(None)
        elif key in ("std", "contraction"):
            cells[key] = Cell(value, format_number(value, 2))
        else:
            cells[key] = Cell(value, beside(value, row["std"]))
    unit = "" if row["unit"] == "1" else f" ({row['unit']})"
    return {"name": f"{row['parameter']}{unit}", "cells": cells}
