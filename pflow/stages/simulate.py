"""simulate: one shard of pairs (x, y), x from the prior and y = F(x) + noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.seeds import generator_for
from pflow.stage_settings import SimulateSettings
from pflow.stages.inputs import problem_from
from pflow.store import write_arrays

__all__ = ["simulate"]


def simulate(settings: SimulateSettings, record: dict[str, Any], *, out: Path, threads: int = 1) -> None:
    """Write arrays x (pairs, *model), y (pairs, *data) and, where a flow sees something else than y, summary (pairs, *summary).

    The shard depends on its seed and index alone.
    """
    from pflow.device import select_device

    select_device("cpu", threads)
    problem = problem_from(settings.problem)
    generator = generator_for(settings.seed, "pairs", settings.split, settings.shard)
    fidelity = "high" if settings.split == "high_fidelity" else "low"
    x, y = problem.simulate(settings.pairs, generator, fidelity=fidelity)
    arrays, summary = {"x": x.numpy(), "y": y.numpy()}, problem.summary(y)
    if summary is not y:
        arrays["summary"] = summary.numpy()
    write_arrays(out, arrays, {"fidelity": fidelity, "seed": settings.seed, "shard": settings.shard})
