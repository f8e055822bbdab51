"""Verdicts and their evidence for the page, from metrics.json and calibration.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pflow.report.numbers import Cell, over_seeds

__all__ = ["CALIBRATION", "EVIDENCE", "calibration_row", "verdict_of"]

LEVELS = ("trustworthy", "usable with care", "do not use")
SYMBOLS = ("\N{CHECK MARK}", "!", "\N{MULTIPLICATION SIGN}")

# name in metrics.json: heading, unit, significant digits
EVIDENCE = {
    "pareto_k": ("k\N{NON-BREAKING HYPHEN}hat", "", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "score_error": ("Score error", "per parameter", 2),
    "predictive_chi_square": ("Predictive χ²", "1 expected", 3),
    "predictive_chi_square_spread": ("± expected", "", 2),
    "coverage_90": ("90 % coverage", "", 3),
    "missed_mass": ("Missed mass", "", 2),
    "ood_p_value": ("Like training data", "p", 2),
}
# name in calibration.json
CALIBRATION = {
    "sbc_p_value": ("Ranks (SBC)", "p", 2),
    "tarp_p_value": ("TARP", "p", 2),
    "coverage_50": ("50 % coverage", "", 3),
    "coverage_90": ("90 % coverage", "", 3),
    "coverage_95": ("95 % coverage", "", 3),
    "held_out_nats": ("\N{MINUS SIGN}log q of the truth", "nats", 3),
    "pairs": ("Held-out pairs", "", 3),
}


def verdict_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The worst verdict over seeds, how many seeds share it, and the reasons of the first of them;
    None where there is none.
    """
    judged = [m for m in metrics if m.get("verdict") in LEVELS]
    if not judged:
        return None
    level = max(LEVELS.index(m["verdict"]) for m in judged)
    worst = next(m for m in judged if m["verdict"] == LEVELS[level])
    counts = Counter(m["verdict"] for m in judged)
    others = ", ".join(
        f"{counts[name]} of {len(judged)} seeds {name}" for name in reversed(LEVELS) if counts[name]
    )
    return {
        "level": level,
        "symbol": SYMBOLS[level],
        "text": LEVELS[level],
        "seeds": others if len(counts) > 1 else "",
        "reasons": [str(reason) for reason in worst.get("verdict_reasons") or []],
    }


def calibration_row(flow: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
    """One pretrained flow: its numbers over held-out pairs, and the p-values of each
    observation.
    """
    numbers = content or {}
    cells: dict[str, Cell] = {
        key: over_seeds([numbers.get(key)], digits, "not finished yet")
        for key, (_, _, digits) in CALIBRATION.items()
    }
    observations = {
        name: {key: over_seeds([value], 2) for key, value in (entry or {}).items()}
        for name, entry in (numbers.get("observations") or {}).items()
    }
    return {"flow": flow, "cells": cells, "observations": observations}
