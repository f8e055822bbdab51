"""Simulated pairs and observations with NaN are refused where they are made."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import IdentityOperator
from pflow.stages.io.simulated_data import require_finite_data


def test_data_that_are_not_finite_are_counted_and_the_operator_is_named():
    y = torch.ones(5, 3)
    require_finite_data(IdentityOperator((3,)), y, "draws of the prior")
    y[1, 0], y[1, 2], y[4, 1] = torch.nan, torch.inf, torch.nan
    with pytest.raises(PflowError, match="`IdentityOperator` gave NaN or infinity at 2 of 5 draws"):
        require_finite_data(IdentityOperator((3,)), y, "draws of the prior")
