"""What an operator costs: seconds and memory of F, without and with gradient, at the batch sizes to
be used.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators.base import Operator

__all__ = ["measure_cost"]

REPEATS = 3
LONGEST_S = 60.0  # a larger batch is left out if it would take longer

Cost = dict[str, Any]  # seconds and bytes by name; None where they are unknown


def measure_cost(
    operator: Operator,
    x: Float[Tensor, "batch *model"],
    v: Float[Tensor, "batch *data"],
    batches: Sequence[int] = (),
) -> Cost:
    """Seconds of one model and bytes of a whole batch; a gradient includes the forward that it
    needs.

    Arguments:
        operator: F.
        x: at least two models; their number is the first batch size. What is timed lies on the
            lines between them, and no model is asked for twice, so that an operator that keeps its
            last factorisation does not look free.
        v: as many vectors of data; repeated for other batch sizes.
        batches: other batch sizes.

    Returns:
        `seconds_per_forward`, `seconds_per_gradient`, `bytes_saved_for_gradient` (what autograd
        keeps between forward and backward), `peak_bytes_forward` and `peak_bytes_gradient` (the
        most memory above what was in use before; of this process alone, None where the system does
        not tell), all at the first batch size; in `costs` for every batch size. What needs a
        gradient is None where there is none.
    """
    models = _DistinctModels(x)
    first = _cost(operator, models, v)
    slowest = first["seconds_per_gradient"] or first["seconds_per_forward"]
    others = [
        size for size in sorted(set(batches)) if size != len(x) and size * slowest <= LONGEST_S
    ]
    costs = [
        first,
        *(_cost(operator, models, _repeat(v, size)) for size in others),
    ]
    return {key: value for key, value in first.items() if key != "batch"} | {
        "costs": sorted(costs, key=lambda cost: cost["batch"])
    }


class _DistinctModels:
    """Models on the lines between neighbours, never the same one twice."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.given = x, 0

    def __call__(self, size: int) -> Tensor:
        place = torch.arange(size, device=self.x.device)
        first, second = self.x[place % len(self.x)], self.x[(place + 1) % len(self.x)]
        # multiples of the golden ratio, modulo 1, neither repeat nor cluster
        share = ((place + self.given + 1).double() * (math.sqrt(5) - 1) / 2) % 1
        self.given += size
        return first + share.to(self.x).reshape(-1, *[1] * (self.x.ndim - 1)) * (second - first)


def _cost(operator: Operator, models: _DistinctModels, v: Tensor) -> Cost:
    def new() -> Tensor:
        return models(len(v))

    def forward(x: Tensor) -> None:
        with torch.no_grad():
            operator(x)

    def evaluate(x: Tensor) -> None:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(operator(leaf), leaf, v)

    x = new()
    cost: Cost = {
        "batch": len(v),
        "peak_bytes_forward": _peak_bytes(lambda: forward(x), x.device),
        "seconds_per_forward": _seconds(forward, new) / len(v),
    }
    if not operator.differentiable:
        return cost | {
            "peak_bytes_gradient": None,
            "bytes_saved_for_gradient": None,
            "seconds_per_gradient": None,
        }
    x = new()
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        peak = _peak_bytes(lambda: evaluate(x), x.device)
    return cost | {
        "peak_bytes_gradient": peak,
        "bytes_saved_for_gradient": sum(saved.values()),
        "seconds_per_gradient": _seconds(evaluate, new) / len(v),
    }


def _repeat(values: Tensor, size: int) -> Tensor:
    return values[torch.arange(size, device=values.device) % len(values)]


def _seconds(call: Callable[[Tensor], object], new: Callable[[], Tensor]) -> float:
    """The shortest of a few runs, each at new models: the others were disturbed. A long one is not
    repeated.
    """
    shortest = math.inf
    for _ in range(REPEATS):
        x = new()
        wait = torch.cuda.synchronize if x.device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        call(x)
        wait()
        shortest = min(shortest, time.perf_counter() - start)
        if shortest > LONGEST_S / REPEATS:
            break
    return shortest


def _peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """The most memory that a call used beyond what was used before: of the GPU, or on Linux of this
    process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(
            0
        )  # freed memory that the C library holds back would hide what the call takes
    try:
        Path("/proc/self/clear_refs").write_text(
            "5"
        )  # sets the high-water mark to what is in use now
        before = _resident("VmRSS")
    except OSError:
        call()
        return None
    call()
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")
