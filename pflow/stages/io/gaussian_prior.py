"""A problem under the stationary Gaussian prior with the spectrum of its training images. It
imports no flow, so that references do not depend on flows.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pflow.errors import PflowError
from pflow.problems.base import Problem
from pflow.problems.prior_override import PriorOverride
from pflow.problems.stationary import StationaryGaussian
from pflow.storage.store import read_arrays

__all__ = ["with_gaussian_prior"]


def with_gaussian_prior(problem: Problem, file: Path | None) -> Problem:
    """`problem` with the Gaussian prior whose spectrum is in `file`.

    Raises:
        PflowError: the file is not named.
    """
    if file is None:
        raise PflowError("the prior `gaussian` is read from a file: name it with --prior")
    return PriorOverride(
        problem,
        StationaryGaussian(torch.from_numpy(read_arrays(file, ("spectrum",))[0]["spectrum"])),
    )
