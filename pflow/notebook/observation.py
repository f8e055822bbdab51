"""One observation: checked against its problem, and kept as a file that the pipeline reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.errors import PflowError
from pflow.problems.base import Problem
from pflow.storage.atomic import replacing

__all__ = ["checked_data", "write_data"]


def checked_data(y: Any, problem: Problem) -> np.ndarray:
    """y as float64, (*data).

    Raises:
        PflowError: it has another shape, or holds NaN where data are not missing.
    """
    try:
        data = np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y, dtype=float)
    except (TypeError, ValueError) as error:
        raise PflowError(
            f"`y` (a {type(y).__name__}) must be an array of numbers ({error})"
        ) from error
    shape = tuple(problem.data_shape)
    if data.shape not in (shape, (1, *shape)):
        raise PflowError(
            f"`y` has the shape {data.shape}, and one observation of this problem has {shape}:"
            " bring it to that shape; several observations are one call each"
        )
    data = data.reshape(shape)
    kept = problem.noise.recorded(torch.from_numpy(data.copy())[None])[0].numpy()
    bad = np.argwhere(~np.isfinite(kept))
    if len(bad):
        raise PflowError(
            f"`y` must be finite and has {len(bad)} NaN or infinite values, the first at"
            f" {bad[0].tolist()}: fill them in, or give the problem a MaskedNoise"
        )
    return data


def write_data(file: Path, data: np.ndarray, replace: bool) -> None:
    """Write the data, unless they are there.

    Raises:
        PflowError: other data lie there, and `replace` is false.
    """
    if file.is_file():
        try:
            there = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            there = None
        if there is not None and np.array_equal(there, data, equal_nan=True):
            return
        if not replace:
            raise PflowError(
                f"`y` differs from the observation `{file.stem}` in {file}: give it another name,"
                f" such as observation='{file.stem}2'; or replace=True makes again what follows"
            )
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, data)
