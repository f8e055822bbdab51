"""Whether the target is defined at enough of the draws that a flow learns from, and, where it is
not, why.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.inference.evaluation import Evaluation
from pflow.problems.base import Problem

__all__ = ["require_valid"]


def require_valid(drawn: Evaluation, problem: Problem) -> None:
    """Raise PflowError where the target is not finite at more than half of the draws; it says what
    is undefined at most of them: the draws themselves, F outside its domain, the prior, or F.
    """
    invalid = ~drawn.valid
    share = float(invalid.float().mean())
    if share <= 0.5:
        return
    causes = _causes(drawn, problem)
    said, way_out = max(causes, key=lambda cause: int((causes[cause] & invalid).sum()))
    raise PflowError(
        f"the target is NaN or infinite at {share:.0%} of the draws of the flow, and at most half"
        f" may be: {said} ({int((causes[said, way_out] & invalid).sum())} of {len(invalid)})."
        f" {way_out}"
    )


@torch.no_grad()
def _causes(drawn: Evaluation, problem: Problem) -> dict[tuple[str, str], Tensor]:
    """What is said, with its way out: the draws where it is the first cause, (batch,)."""
    operator = problem.high_fidelity
    largest = torch.finfo(drawn.x.dtype).max ** 0.5  # beyond, squares overflow
    left = (drawn.x.flatten(1).abs() < largest).all(1)
    causes = {
        (
            "the draws themselves are NaN or infinite, or as good as that",
            "Training has diverged: lower `learning_rate` of the method, or lengthen `warmup`",
        ): ~left
    }
    if operator.valid is not None:
        outside = left.clone()
        outside[left] = ~operator.valid(drawn.x[left])
        causes[
            f"they lie outside the domain that `{type(operator).__name__}.valid` names",
            "Start closer to it (`start: random` begins at the prior), or restrict the prior to it",
        ] = outside
        left = left & ~outside
    causes[
        "the prior has no finite density there",
        "Give `log_prior` a finite value at every x, as a prior in unbounded coordinates has",
    ] = left & ~drawn.log_prior.isfinite()
    left = left & drawn.log_prior.isfinite()
    prediction = drawn.prediction.flatten(1).isfinite().all(1)
    causes[
        f"`{type(operator).__name__}` returns NaN or infinity there",
        "Guard the division, logarithm or root that fails, restrict the prior to models for which F"
        " is defined, or give the operator a method `valid(x)` that says where it is",
    ] = left & ~prediction
    causes[
        f"the data of `{type(operator).__name__}` are finite there, but their density or its"
        " gradient is not",
        "Correct its gradient (python -m pflow check_operator compares it with finite differences),"
        " or the noise",
    ] = left & prediction
    return causes
