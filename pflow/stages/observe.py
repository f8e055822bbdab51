"""observe: y_obs, simulated with the high-fidelity operator, F(x_true) + noise, or measured, from
the user's file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.config.data import ObservationSettings
from pflow.config.jobs import ObserveJobSettings
from pflow.errors import PflowError
from pflow.execution.device import select_device
from pflow.execution.seeds import generator_for
from pflow.problems.base import Problem
from pflow.stages.io.inputs import problem_from
from pflow.stages.io.simulated_data import require_finite_data
from pflow.storage.formats import header, read_whole
from pflow.storage.store import write_arrays

__all__ = ["observe"]


def observe(
    settings: ObserveJobSettings, record: dict[str, Any], *, out: Path, threads: int = 1
) -> None:
    """Write y (*data) and, of a simulated observation, x_true (*model)."""
    select_device("cpu", threads)
    problem, wanted = problem_from(settings.problem), settings.observation
    if wanted.file is not None:
        return write_arrays(out, {"y": measured(wanted, problem)}, {"source": wanted.file})
    generator = generator_for(wanted.seed, "observation")
    if wanted.x_true is None:
        x_true = wanted.scale * problem.sample_truth(1, generator)
    else:
        size = math.prod(problem.model_shape)
        if len(wanted.x_true) != size:
            raise PflowError(
                f"`x_true` must have {size} numbers, one for each parameter, and has"
                f" {len(wanted.x_true)}: correct it in `observations`"
            )
        x_true = torch.tensor(wanted.x_true).reshape(1, *problem.model_shape)
    y = problem.noise.add_to(problem.high_fidelity(x_true), generator, drawn_in=torch.float32)
    require_finite_data(problem.high_fidelity, y, "true models")
    write_arrays(
        out,
        {"y": y[0].numpy(), "x_true": x_true[0].numpy()},
        {"noise_std": problem.noise_std, "seed": wanted.seed},
    )


def measured(wanted: ObservationSettings, problem: Problem) -> np.ndarray:
    """The user's data, (*data).

    Raises:
        PflowError: it has another shape than the problem's data, or is not finite.
    """
    assert wanted.file is not None, "measured data lie in a file"
    path = Path(wanted.file)
    name, stored = header(path, wanted.variable, "variable")
    one = tuple(problem.data_shape)
    if stored.shape not in (one, (1, *one)):  # a batch of one, as a simulation writes it
        raise PflowError(
            f"{path}: `{name or wanted.variable}` has the shape {stored.shape}, and one observation"
            f" has {one}: bring it to that shape; several observations need a file each"
        )
    y = read_whole(path, name).reshape(one)
    if (
        problem.noise is not None
    ):  # data that the noise knows to be missing may be anything in the file
        y = problem.noise.recorded(torch.from_numpy(y)[None])[0].numpy()
    bad = np.argwhere(~np.isfinite(y))
    if len(bad):
        raise PflowError(
            f"{path}: `{name or wanted.variable}` must be finite and has {len(bad)} NaN or infinite"
            f" values, the first at {[int(i) for i in bad[0]]}: fill them in, or leave these data"
            " out of the problem (a noise with a mask)"
        )
    return y
