"""The default experiment of `pflow.infer`, small: seconds in place of minutes."""

from __future__ import annotations

from typing import Any

from pflow.notebook.configuration import default_experiment, merged

SMALL: dict[str, Any] = {
    "simulate": {"train": 300, "validation": 60, "test": 60},
    "flows": {"flow": {"depth": 2, "hidden": 8, "pretrain": {"epochs": 2, "batch": 32}}},
    "finetune": {"auto": {"objective": "score_replay", "inner": 10}},
    "sample": {"draws": 200, "score_draws": 16, "prior_draws": 50},
    "calibrate": {"pairs": 50, "draws": 20},
}


def small_experiment(*arguments: Any) -> dict[str, Any]:
    """What `default_experiment` gives, with small numbers."""
    return merged(default_experiment(*arguments), SMALL)
