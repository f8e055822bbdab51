"""Whether an operator gave data for the models that it was asked for."""

from __future__ import annotations

from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator

__all__ = ["require_finite_data"]


def require_finite_data(operator: Operator, y: Tensor, models: str) -> None:
    """Refuse simulated data with NaN or infinity before anything learns from them.

    Arguments:
        operator: what gave the data.
        y: the data, (batch, *data).
        models: what the operator was asked for, in words.

    Raises:
        PflowError: some of `y` is not finite.
    """
    bad = int((~y.isfinite()).flatten(1).any(1).sum())
    if bad:
        name = type(operator).__name__
        raise PflowError(
            f"simulated data must be finite, and `{name}` gave NaN or infinity at {bad} of"
            f" {len(y)} {models}: guard the division, logarithm or root that fails, or restrict the"
            f" prior (`sample_prior`, `log_prior`) to models for which `{name}` is defined"
        )
