"""Each kind of broken operator is caught, and the message says what to mend; sound ones pass."""

from __future__ import annotations

import json

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import MatrixOperator, Operator, check_operator

MATRIX = torch.tensor([[2.0, -1.0, 0.3], [0.5, 1.0, 4.0], [-0.7, 0.2, 1.0]], dtype=torch.float64)


def check(operator, dtype=torch.float64, batch=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *operator.model_shape, generator=generator, dtype=torch.float64).to(
        dtype
    )
    return check_operator(operator, x, generator)


class Sound(Operator):
    """F(x) = A x + a cubic: the base of everything below, each of which breaks one thing."""

    def __init__(self):
        super().__init__((3,), (3,))

    def forward(self, x):
        return x @ MATRIX.to(x).T + 0.3 * x**3


class Linear(MatrixOperator):
    def __init__(self):
        super().__init__(MATRIX)


class OwnGradient(Sound):
    def vjp(self, x, v):
        return v @ MATRIX.to(x) + 0.9 * x**2 * v


class NumPy(OwnGradient):
    def forward(self, x):
        return Sound.forward(self, x.detach().clone())


class Images(Operator):
    def __init__(self):
        super().__init__((1, 4, 5), (2, 3))

    def forward(self, x):
        return (x.exp()[:, 0, :2, :3] + x[:, 0, 2:, 2:]).sin()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "operator", [Sound(), OwnGradient(), NumPy(), Images()], ids=lambda o: type(o).__name__
)
def test_sound_nonlinear_operators_pass(operator, dtype):
    results = check(operator, dtype)
    assert results["taylor_slope"] == pytest.approx(2, abs=0.15)
    assert results["gradient_error"] < {torch.float32: 1e-3, torch.float64: 1e-7}[dtype]
    assert results["linearity_error"] is None and results["dot_test_error"] is None
    assert results["seconds_per_gradient"] > 0 and results["bytes_saved_for_gradient"] > 0
    assert json.loads(json.dumps(results)) == results


def test_taylor_slope_is_none_where_rounding_hides_the_remainder():
    class DeclaredNonlinear(Linear):
        linear = False

    assert check(DeclaredNonlinear(), torch.float32)["taylor_slope"] is None


def test_zero_is_a_linear_operator():
    assert check(MatrixOperator(torch.zeros(2, 3)))["gradient_error"] == 0


def test_bytes_saved_count_what_autograd_keeps():
    class Exponential(Sound):
        def forward(self, x):
            return x.exp()

    assert (
        check(Exponential(), batch=10)["bytes_saved_for_gradient"] == 10 * 3 * 8
    )  # exp keeps its result


class ScaledAdjoint(Linear):
    def adjoint(self, v):
        return 1.001 * super().adjoint(v)


class ForwardAsAdjoint(Linear):
    def adjoint(self, v):
        return self.forward(v)


class ShiftedAdjoint(Linear):
    def adjoint(self, v):
        return super().adjoint(v).roll(1, -1)


class WritesIntoInput(Sound):
    def forward(self, x):
        x *= 2
        return x @ MATRIX.to(x).T


class AdjointWritesIntoInput(Linear):
    def adjoint(self, v):
        result = super().adjoint(v)
        v.zero_()
        return result


class Counter(Sound):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + 0.01 * self.calls)


class AlternatesEachCall(Sound):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1 + self.calls % 2)


class Noisy(Sound):
    def forward(self, x):
        return super().forward(x) + 0.01 * torch.randn(x.shape).to(x)


class RemembersPreviousModel(Sound):
    previous = None

    def forward(self, x):
        result = super().forward(
            x
            if self.previous is None or len(self.previous) != len(x)
            else 0.9 * x + 0.1 * self.previous
        )
        self.previous = x.clone()
        return result


class ReusesBuffer(Sound):
    buffer = None

    def forward(self, x):
        result = super().forward(x)
        if self.buffer is None or self.buffer.shape != result.shape:
            self.buffer = torch.empty_like(result)
        self.buffer.copy_(result.detach())
        return self.buffer

    def vjp(self, x, v):
        return OwnGradient.vjp(self, x, v)


class GradientOfLastForward(OwnGradient):
    last = None

    def forward(self, x):
        self.last = x.clone()
        return super().forward(x)

    def vjp(self, x, v):
        return super().vjp(self.last if self.last.shape == x.shape else x, v)


class AlwaysFloat64(Sound):
    def forward(self, x):
        return super().forward(x.double())


class OneModelAtATime(Sound):
    def forward(self, x):
        return MATRIX.to(x) @ x


class MultipliesBatchAxis(Sound):
    """MATRIX @ x happens to have the right shape for a batch of 3."""

    def forward(self, x):
        return MATRIX.to(x) @ x


class DropsBatchAxis(Sound):
    def forward(self, x):
        return super().forward(x).sum(0)


class NormalisesOverBatch(Sound):
    def forward(self, x):
        return super().forward(x - x.mean())


class GradientSummedOverBatch(OwnGradient):
    def vjp(self, x, v):
        return super().vjp(x, v).sum(0).expand_as(x)


class WrongShape(Sound):
    def forward(self, x):
        return super().forward(x)[:, :2]


class NotATensor(Sound):
    def forward(self, x):
        return x.detach().numpy()


class Undefined(Sound):
    def forward(self, x):
        return x.sqrt()


class GradientUndefined(OwnGradient):
    def vjp(self, x, v):
        return v / 0.0


class Affine(Sound):
    linear = True

    def forward(self, x):
        return x @ MATRIX.to(x).T + 1


class Detached(Sound):
    def forward(self, x):
        return super().forward(x).detach()


class PartlyDetached(Sound):
    def forward(self, x):
        return x @ MATRIX.to(x).T + 0.3 * x * (x**2).detach()


class GradientMissesATerm(OwnGradient):
    def vjp(self, x, v):
        return v @ MATRIX.to(x)


class OppositeGradient(OwnGradient):
    def vjp(self, x, v):
        return -super().vjp(x, v)


class GradientSlightlyScaled(OwnGradient):
    def vjp(self, x, v):
        return (1 + 1e-4) * super().vjp(x, v)


BROKEN = {
    ScaledAdjoint: (
        r"`ScaledAdjoint.adjoint` must be the transpose of `forward`.*transpose every step"
    ),
    ForwardAsAdjoint: r"`ForwardAsAdjoint.adjoint` must be the transpose",
    ShiftedAdjoint: r"`ShiftedAdjoint.adjoint` must be the transpose",
    WritesIntoInput: r"`WritesIntoInput.forward` must leave its input unchanged.*x.clone\(\)",
    AdjointWritesIntoInput: r"`AdjointWritesIntoInput.adjoint` must leave its input unchanged",
    Counter: (
        r"`Counter.forward` must give the same result for the same input.*keeps something from"
        r" earlier calls"
    ),
    AlternatesEachCall: (
        r"`AlternatesEachCall.forward` must give the same result for the same input"
    ),
    Noisy: r"`Noisy.forward` must give the same result for the same input.*draws random numbers",
    RemembersPreviousModel: (
        r"`RemembersPreviousModel.forward` must give the same result for the same input"
    ),
    ReusesBuffer: r"`ReusesBuffer.forward` must return a new tensor.*return a copy",
    GradientOfLastForward: (
        r"`GradientOfLastForward.vjp` must give the same result for the same input"
    ),
    OneModelAtATime: r"`OneModelAtATime.forward` must take a whole batch at once.*x @ A.T",
    DropsBatchAxis: (
        r"`DropsBatchAxis.forward` must return shape \(6, 3\), the batch first, and returned \(3,\)"
    ),
    NormalisesOverBatch: (
        r"`NormalisesOverBatch.forward` must treat the members of a batch independently.*mixes the"
        r" batch axis"
    ),
    GradientSummedOverBatch: (
        r"`GradientSummedOverBatch.vjp` must treat the members of a batch independently"
    ),
    WrongShape: r"`WrongShape.forward` must return shape \(6, 3\).*returned \(6, 2\)",
    NotATensor: r"`NotATensor.forward` must return a torch tensor, and returned ndarray",
    Undefined: r"`Undefined.forward` must be finite.*gave NaN or infinity",
    GradientUndefined: r"`GradientUndefined.vjp` must be finite",
    Affine: r"`Affine` is declared linear.*set `linear = False`",
    Detached: r"`Detached.forward` must be differentiable.*define `vjp",
    PartlyDetached: (
        r"`PartlyDetached.vjp` must be the gradient of `forward`.*detached from autograd"
    ),
    GradientMissesATerm: r"`GradientMissesATerm.vjp` must be the gradient of `forward`.*leaves out",
    OppositeGradient: r"`OppositeGradient.vjp` must be the gradient.*has the opposite sign",
    GradientSlightlyScaled: r"`GradientSlightlyScaled.vjp` must be the gradient of `forward`",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_operators_are_caught_in_plain_words(broken):
    with pytest.raises(PflowError, match=BROKEN[broken]):
        check(broken())


def test_float64_results_for_float32_models_are_caught():
    with pytest.raises(
        PflowError,
        match=r"must return the dtype of its input \(torch.float32\), and returned torch.float64",
    ):
        check(AlwaysFloat64(), torch.float32)


def test_batch_that_happens_to_fit_is_caught_too():
    with pytest.raises(PflowError, match="MultipliesBatchAxis.forward"):
        check(MultipliesBatchAxis(), batch=3)


@pytest.mark.parametrize(
    "broken",
    [ScaledAdjoint, GradientMissesATerm, PartlyDetached],
    ids=lambda broken: broken.__name__,
)
def test_wrong_derivatives_are_caught_in_float32(broken):
    with pytest.raises(PflowError, match=broken.__name__):
        check(broken(), torch.float32)


def test_a_kinked_gradient_fails_the_taylor_test():
    class Kinked(Sound):
        """|x| with a kink on every line between two models, at the point where the gradient is
        taken.
        """

        def forward(self, x):
            return (x - self.centre).abs() + x

    operator = Kinked()
    x = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 7.0]], dtype=torch.float64)
    operator.centre = x.mean(0)
    with pytest.raises(PflowError, match="Taylor remainder of order 2, and it is of order 1.00"):
        check_operator(operator, x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(6, 4), r"at least 2 models of shape \(3,\).*has shape \(6, 4\)"),
        (torch.randn(1, 3, generator=torch.Generator().manual_seed(0)), "at least 2 models"),
        (torch.ones(2, 3), "duplicates"),
        (torch.tensor([[1.0, 2.0, 3.0], [1.0, torch.nan, 3.0]]), "NaN"),
        (torch.ones(2, 3, dtype=torch.float16), "checked in float32 or float64"),
    ],
)
def test_models_to_check_with_are_checked_themselves(x, message):
    with pytest.raises(PflowError, match=message):
        check_operator(Sound(), x)


def test_the_models_of_the_caller_survive_an_operator_that_writes_into_them():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = x.clone()
    with pytest.raises(PflowError, match="unchanged"):
        check_operator(WritesIntoInput(), x)
    torch.testing.assert_close(x, kept, rtol=0, atol=0)


def test_checks_draw_from_the_generator_only():
    state = torch.get_rng_state()
    first, second = check(Sound()), check(Sound())
    assert torch.equal(state, torch.get_rng_state())
    same = [key for key in first if not key.startswith(("seconds", "peak", "costs"))]
    assert {key: first[key] for key in same} == {key: second[key] for key in same}


def test_operators_without_a_gradient_are_checked_for_the_rest():
    class Values(Sound):
        differentiable = False

        def vjp(self, x, v):
            raise AssertionError("asked for a gradient")

    results = check(Values())
    assert (
        results["gradient_error"]
        is results["seconds_per_gradient"]
        is results["taylor_slope"]
        is None
    )
    assert results["seconds_per_forward"] > 0

    class NoisyValues(Values):
        def forward(self, x):
            return super().forward(x) + 0.01 * torch.randn(x.shape).to(x)

    with pytest.raises(PflowError, match="NoisyValues.forward` must give the same result"):
        check(NoisyValues())


class Positive(Sound):
    """A logarithm, and the domain that it needs."""

    def forward(self, x):
        return x.log()

    def valid(self, x):
        return (x > 0).all(1)


def test_only_models_in_the_domain_are_checked():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = check_operator(Positive(), x)
    assert results["batch"] == int((x > 0).all(1).sum()) > 2

    class Elementwise(Positive):
        def valid(self, x):
            return x > 0

    class Nowhere(Positive):
        def valid(self, x):
            return (x > 10).all(1)

    with pytest.raises(
        PflowError,
        match=(
            r"Elementwise.valid` must return one boolean for each of the 40 models, and returned"
            r" torch.bool \(40, 3\)"
        ),
    ):
        check_operator(Elementwise(), x)
    with pytest.raises(
        PflowError, match="Nowhere.valid` must accept most models of the prior, and accepts 0 of 40"
    ):
        check_operator(Nowhere(), x)
