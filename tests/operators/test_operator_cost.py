"""The cost of an operator: seconds and memory at every batch size."""

from __future__ import annotations

import json
import time

import torch

from pflow.operators import MatrixOperator, check_operator
from pflow.operators.cost import measure_cost

MATRIX = torch.tensor([[2.0, -1.0, 0.3], [0.5, 1.0, 4.0], [-0.7, 0.2, 1.0]], dtype=torch.float64)


def models(n):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_costs_are_measured_at_every_batch_size():
    class Slow(MatrixOperator):
        """Sleeps for a millisecond a model, and keeps 2 MB a model meanwhile."""

        def forward(self, x):
            time.sleep(1e-3 * len(x))
            return super().forward(x) + 0 * torch.ones(len(x), 2**18, dtype=torch.float64).sum(
                1, keepdim=True
            )

    x = models(4)
    results = check_operator(Slow(MATRIX), x, batches=(1, 4, 16))
    assert [cost["batch"] for cost in results["costs"]] == [1, 4, 16]
    for cost in results["costs"]:
        assert 1e-3 < cost["seconds_per_forward"] < 0.02 and cost["seconds_per_gradient"] > 1e-3
        assert cost["peak_bytes_forward"] > 0.9 * cost["batch"] * 2**21
    assert results["seconds_per_gradient"] == results["costs"][1]["seconds_per_gradient"]
    assert json.loads(json.dumps(results)) == results


def test_no_model_is_timed_twice():
    """An operator that keeps its last factorisation would look free."""
    asked: list[torch.Tensor] = []

    class Recording(MatrixOperator):
        def forward(self, x):
            asked.append(x.detach().clone())
            return super().forward(x)

    x = models(4)
    measure_cost(Recording(MATRIX), x, x, batches=(1, 16))
    rows = torch.cat(asked)
    assert len(asked) == 3 * (1 + 3 + 1 + 3)  # forward and gradient: memory once, time three times
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert (rows <= x.max(0).values).all() and (rows >= x.min(0).values).all()


def test_batches_that_would_take_minutes_are_left_out():
    class Dear(MatrixOperator):
        def forward(self, x):
            time.sleep(2e-3 * len(x))
            return super().forward(x)

    x = models(2)
    assert [
        cost["batch"] for cost in check_operator(Dear(MATRIX), x, batches=(4, 10**6))["costs"]
    ] == [2, 4]
