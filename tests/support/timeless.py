"""The content of a result without the time and memory that it took."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["timeless"]

COSTS = {
    "wall_seconds",
    "seconds_per_step",
    "peak_memory_mb",
    "operator_seconds",
    "seconds",
    "recalled_evaluations",
    "checked_evaluations",
    "operator_free_seconds_per_evaluation",
}


def _without_costs(value: object) -> object:
    if isinstance(value, list):
        return [_without_costs(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_costs(item)
        for name, item in value.items()
        if name not in COSTS and not name.startswith(("seconds_per_", "peak_"))
    }


def timeless(path: Path) -> bytes:
    """What two runs of one job have in common, to the bit."""
    if path.name in ("metrics.json", "flow.json", "operator.json"):
        return json.dumps(_without_costs(json.loads(path.read_text())), sort_keys=True).encode()
    if path.name == "history.csv":
        rows = [line.split(",") for line in path.read_text().splitlines()]
        drop = rows[0].index("seconds")
        return "\n".join(",".join(row[:drop] + row[drop + 1 :]) for row in rows).encode()
    if path.suffix == ".origin":  # its hashes are those of files that say what they took
        origin = json.loads(path.read_text())
        return json.dumps(
            {
                name: sorted(value) if isinstance(value, dict) else value
                for name, value in origin.items()
            },
            sort_keys=True,
        ).encode()
    return path.read_bytes()
