r"""Checks of a forward operator, made before anything is trained on it.

A wrong gradient does not stop a training: it quietly gives a wrong posterior. So F must first show
that it is a function (deterministic, without memory, each member of a batch by itself), that it is
linear where it says so, and that `adjoint` and `vjp` are its true derivatives:

    dot test         <F x, v> = <x, F^T v>                                        linear F
    differences      (phi(c + h d) - phi(c - h d)) / 2h -> <d, J(c)^T w>          every F;  phi =
                     <w, F(.)>
    Taylor test      |phi(c + h d) - phi(c) - h <d, J(c)^T w>| = O(h^2)           nonlinear F
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators.base import Operator
from pflow.operators.batch_norms import dot, ratio, relative_error, unit
from pflow.operators.call_checks import CheckedOperator
from pflow.operators.cost import measure_cost
from pflow.operators.tangent_check import check_tangent

__all__ = ["check_operator"]

# Largest relative error of anything that should hold to rounding, and of a gradient against finite
# differences.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-9}
DIFFERENCES = {torch.float32: 1e-3, torch.float64: 1e-6}
STEPS = tuple(4.0**-k for k in range(8))
SMALLEST_TAYLOR_SLOPE = 1.8


def check_operator(
    operator: Operator,
    x: Float[Tensor, "batch *model"],
    generator: torch.Generator | None = None,
    batches: Sequence[int] = (),
) -> dict[str, Any]:
    """Checks an operator at typical models, and measures what it costs.

    The errors are relative. The checks are as sharp as the dtype of `x` allows: pass float64 where
    the operator can do it.

    Arguments:
        operator: the operator.
        x: at least two different models drawn from the prior; float32 or float64. Those outside the
            operator's domain (`valid`) are left out.
        generator: source of the random directions.
        batches: other batch sizes at which to measure the cost.

    Returns:
        What was measured, ready for JSON; `taylor_slope` is None where F is linear, or so close to
        it that rounding hides the remainder, and what concerns gradients is None where there is
        none. Costs are those of `pflow.operators.cost.measure_cost`.

    Raises:
        PflowError: at the first check that fails, with what to mend in plain words.
    """
    _check_models(operator, x)
    x = _valid_models(operator, x)
    # One float64 draw for every precision and device, so that a check means the same everywhere.
    device = "cpu" if generator is None else generator.device

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, device=device).to(x)

    checked = CheckedOperator(operator)
    v = random(len(x), *operator.data_shape)
    with torch.no_grad():
        results = {
            "operator": type(operator).__name__,
            "linear": operator.linear,
            "differentiable": operator.differentiable,
            "dtype": str(x.dtype).removeprefix("torch."),
            "device": x.device.type,
            "batch": len(x),
            "repetition_error": _check_repetition(checked, x, v),
            "batch_error": _check_batch(checked, x, v),
            "linearity_error": _check_linearity(checked, x) if operator.linear else None,
            "dot_test_error": (
                _check_dot(checked, x, random)
                if operator.linear and operator.differentiable
                else None
            ),
            "gradient_error": None,
            "taylor_slope": None,
        }
        if operator.differentiable:
            results |= _check_derivative(checked, x, random)
        if operator.jvp is not None:
            results["jvp_error"] = check_tangent(checked, x, random, STEPS, DIFFERENCES[x.dtype])
    return results | measure_cost(operator, x, v, batches)


def _check_models(operator: Operator, x: Tensor) -> None:
    """The models to check with must themselves make sense."""
    if x.dtype not in ROUNDING:
        raise PflowError(
            f"an operator is checked in float32 or float64, and `x` is {x.dtype}: convert it"
        )
    if len(x) < 2 or tuple(x.shape[1:]) != tuple(operator.model_shape):
        raise PflowError(
            f"`x` must hold at least 2 models of shape {tuple(operator.model_shape)}, the batch"
            f" first, and has shape {tuple(x.shape)}: draw more, or correct"
            f" `{type(operator).__name__}.model_shape`"
        )
    if not x.isfinite().all() or torch.equal(x[0], x[1]):
        raise PflowError(
            "`x` must hold different, finite models of the prior, and holds NaN, infinity or"
            " duplicates: correct `sample_prior`"
        )


def _valid_models(operator: Operator, x: Tensor) -> Tensor:
    """The models in the operator's domain."""
    if operator.valid is None:
        return x
    inside, name = operator.valid(x), f"`{type(operator).__name__}.valid`"
    if (
        not isinstance(inside, Tensor)
        or inside.dtype != torch.bool
        or tuple(inside.shape) != (len(x),)
    ):
        returned = (
            f"{inside.dtype} {tuple(inside.shape)}"
            if isinstance(inside, Tensor)
            else type(inside).__name__
        )
        raise PflowError(
            f"{name} must return one boolean for each of the {len(x)} models, and returned"
            f" {returned}: reduce over the axes after the first"
        )
    if inside.sum() < 2:
        raise PflowError(
            f"{name} must accept most models of the prior, and accepts {int(inside.sum())} of"
            f" {len(x)}: correct it, or restrict the prior"
        )
    return x[inside]


def _check_repetition(operator: CheckedOperator, x: Tensor, v: Tensor) -> float:
    """The same x gives the same F(x) and gradient, whatever was computed before."""
    others = (x + x.roll(1, 0)) / 2
    first = operator.forward(x)
    kept = first.clone()
    repeated = [operator.forward(x)]
    gradient = operator.vjp(x, v) if operator.differentiable else None
    operator.forward(others)
    if not torch.equal(first, kept):
        raise PflowError(
            f"`{operator.name}.forward` must return a new tensor, and its result changed when it"
            " was called again: it returns a buffer that it reuses; return a copy"
        )
    repeated.append(operator.forward(x))
    operator.forward(
        others
    )  # Code that remembers the last forward now answers for the wrong model.
    gradient_error = 0.0 if gradient is None else relative_error(operator.vjp(x, v), gradient)
    error = max(relative_error(again, kept) for again in repeated)
    for method, value in (("forward", error), ("vjp", gradient_error)):
        if value > ROUNDING[x.dtype]:
            raise PflowError(
                f"`{operator.name}.{method}` must give the same result for the same input, and"
                f" repeated calls differ by {value:.1e} (relative): it draws random numbers, or"
                " keeps something from earlier calls; compute from the input alone"
            )
    return max(error, gradient_error)


def _check_batch(operator: CheckedOperator, x: Tensor, v: Tensor) -> float:
    """Each member of a batch is treated as if it came alone."""
    x, v = x[:4], v[:4]
    single = [slice(i, i + 1) for i in range(len(x))]
    errors = {
        "forward": relative_error(
            operator.forward(x), torch.cat([operator.forward(x[i]) for i in single])
        ),
    }
    if operator.differentiable:
        errors["vjp"] = relative_error(
            operator.vjp(x, v), torch.cat([operator.vjp(x[i], v[i]) for i in single])
        )
    for method, error in errors.items():
        if error > ROUNDING[x.dtype]:
            raise PflowError(
                f"`{operator.name}.{method}` must treat the members of a batch independently, and a"
                f" batch differs from the same models one by one by {error:.1e} (relative): it"
                " mixes the batch axis with another one; reduce and multiply along the axes after"
                " the first only"
            )
    return max(errors.values())


def _check_linearity(operator: CheckedOperator, x: Tensor) -> float:
    """F(2 x - 3 x') = 2 F(x) - 3 F(x'). The coefficients do not add up to one, so that F(0) = 0 is
    tested too.
    """
    other = x.roll(1, 0)
    parts = 2 * operator.forward(x), -3 * operator.forward(other)
    scale = sum(part.double().norm() for part in parts)
    error = ratio((operator.forward(2 * x - 3 * other) - sum(parts)).double().norm(), scale)
    if error > ROUNDING[x.dtype]:
        raise PflowError(
            f"`{operator.name}` is declared linear, and F(2x - 3x') differs from 2F(x) - 3F(x') by"
            f" {error:.1e} (relative): set `linear = False`, or move a constant offset F(0) into"
            " the data"
        )
    return error


def _check_dot(operator: CheckedOperator, x: Tensor, random: Callable[..., Tensor]) -> float:
    """The dot test over five draws of (x, v): |<F x, v> - <x, F^T v>| <= tolerance |F x| |v|."""
    worst = 0.0
    for _ in range(5):
        x = random(*x.shape)
        y = operator.forward(x)
        # A random v is nearly orthogonal to F x in many dimensions: the part along F x keeps errors
        # of scale visible.
        v = unit(y) + unit(random(*y.shape))
        left, right = dot(y, v), dot(x, operator.adjoint(v))
        worst = max(worst, ratio(left - right, dot(y, y).sqrt() * dot(v, v).sqrt()))
    if worst > ROUNDING[x.dtype]:
        raise PflowError(
            f"`{operator.name}.adjoint` must be the transpose of `forward`: <F x, v> = <x, F^T v>,"
            f" and the two differ by {worst:.1e} |F x| |v|: transpose every step of `forward`, in"
            " reverse order and with the same scaling (a sum becomes a copy, a pad a crop, a"
            " convolution a correlation)"
        )
    return worst


def _check_derivative(
    operator: CheckedOperator, x: Tensor, random: Callable[..., Tensor]
) -> dict[str, float | None]:
    """Finite differences and the Taylor test along the lines between models of the prior; the
    median over the batch counts.

    All points c + h d with |h| <= 1 lie between two models, where F is surely defined. The median
    forgives single members whose line crosses a kink of F.
    """
    other = x.roll(1, 0)
    c, d = (x + other) / 2, (other - x) / 2
    centre, change = operator.forward(c), operator.forward(c + d) - operator.forward(c - d)
    w = unit(change) + unit(random(*change.shape))  # as in the dot test
    slope = dot(d, operator.vjp(c, w))
    forwards = torch.stack([dot(operator.forward(c + h * d) - centre, w) for h in STEPS])
    backwards = torch.stack([dot(operator.forward(c - h * d) - centre, w) for h in STEPS])
    h = torch.tensor(STEPS, dtype=slope.dtype, device=slope.device)[:, None]
    weight = dot(w, w).sqrt()

    # The best step is different for each operator: large steps see curvature, small ones rounding.
    scale = torch.maximum(slope.abs(), weight * dot(change, change).sqrt() / 2).clamp_min(
        torch.finfo(slope.dtype).tiny
    )
    differences = (forwards - backwards) / (2 * h)
    error, opposite = (
        ((differences - sign * slope).abs() / scale).amin(0).median().item() for sign in (1, -1)
    )
    if error > DIFFERENCES[x.dtype] and opposite <= DIFFERENCES[x.dtype]:
        raise PflowError(
            f"`{operator.name}.vjp` must be the gradient of `forward`, and the gradient has the"
            " opposite sign: return `-` of what `vjp` returns now"
        )
    if error > DIFFERENCES[x.dtype]:
        raise PflowError(
            f"`{operator.name}.vjp` must be the gradient of `forward`, and it differs from finite"
            f" differences by {error:.1e} (relative): look for a part of `forward` that is detached"
            " from autograd, or a step that `vjp` leaves out"
        )
    if operator.linear:
        return {"gradient_error": error, "taylor_slope": None}

    remainder = (forwards - h * slope).abs()
    rounding = 100 * torch.finfo(x.dtype).eps * weight * dot(centre, centre).sqrt()
    orders = torch.log(remainder[:-1] / remainder[1:]) / math.log(STEPS[0] / STEPS[1])
    index = torch.arange(len(orders), device=h.device)[:, None]
    last = torch.where(remainder[1:] > rounding, index, -1).amax(
        0
    )  # the smallest pair of steps above rounding
    order = orders.gather(0, last.clamp_min(0)[None])[0][last >= 0]
    if len(order) == 0:
        return {"gradient_error": error, "taylor_slope": None}
    if order.median() < SMALLEST_TAYLOR_SLOPE:
        raise PflowError(
            f"`{operator.name}.vjp` must leave a Taylor remainder of order 2, and it is of order"
            f" {order.median():.2f}: the gradient is slightly wrong (often an approximation, or a"
            " term that `vjp` leaves out), or F is not smooth"
        )
    return {"gradient_error": error, "taylor_slope": order.median().item()}
