r"""Priors: distributions p(x) of models, each with draws and a log density that autograd can
differentiate.

    MaternField      Gaussian random fields on grids of one or two dimensions
    Unconstrained    torch distributions, bounded ones included, in coordinates without bounds
    DensityPrior any object with `log_prob` and `sample`: a flow, a mixture, a class of your own
    CallablePrior two functions

A problem gets `sample_prior` and `log_prior` from any of them through
`pflow.problems.PriorProblem`.
"""

from __future__ import annotations

from pflow.problems.priors.base import Prior
from pflow.problems.priors.density import CallablePrior, DensityPrior
from pflow.problems.priors.matern import MaternField
from pflow.problems.priors.unconstrained import Unconstrained

__all__ = ["CallablePrior", "DensityPrior", "MaternField", "Prior", "Unconstrained"]
