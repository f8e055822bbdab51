"""observe: the observation y_obs = F(x_true) + noise of the high-fidelity operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pflow.device import select_device
from pflow.seeds import generator_for
from pflow.stage_settings import ObserveSettings
from pflow.stages.inputs import problem_from
from pflow.store import write_arrays

__all__ = ["observe"]


def observe(settings: ObserveSettings, record: dict[str, Any], *, out: Path, threads: int = 1) -> None:
    """Write y (*data) and x_true (*model)."""
    select_device("cpu", threads)
    problem, wanted = problem_from(settings.problem), settings.observation
    generator = generator_for(wanted.seed, "observation")
    if wanted.x_true is None:
        x_true = wanted.scale * problem.sample_prior(1, generator)
    else:
        x_true = torch.tensor(wanted.x_true).reshape(1, *problem.model_shape)
    clean = problem.high_fidelity(x_true)
    y = clean + problem.noise_std * torch.randn(clean.shape, generator=generator)
    write_arrays(out, {"y": y[0].numpy(), "x_true": x_true[0].numpy()}, {"noise_std": problem.noise_std, "seed": wanted.seed})
