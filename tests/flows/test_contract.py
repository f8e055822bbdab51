"""The contract of every flow: one set of tests, parametrised over all flows and their variants.

The weights are randomised first: zero-initialised last layers would make most of these tests
trivial. float64, so that tolerances are those of rounding.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd.functional import jacobian

from pflow.errors import PflowError
from pflow.flows import build_flow
from pflow.flows.base import Flow

DEPTH, HIDDEN, BATCH = 3, 12, 5
BASE = {"name": "coupling", "model_shape": (2,), "data_shape": (2,), "depth": 2, "hidden": 8}

CASES = {
    "coupling": ("coupling", (2,), (2,), {}),
    "coupling, orthogonal": ("coupling", (2,), (3,), {"mixing": "orthogonal"}),
    "coupling, no actnorm": ("coupling", (2,), (2, 2), {"actnorm": False}),
    "coupling, orthogonal, no actnorm": (
        "coupling",
        (4,),
        (2,),
        {"mixing": "orthogonal", "actnorm": False},
    ),
    "coupling, one hidden layer, relu": (
        "coupling",
        (2,),
        (1,),
        {"layers": 1, "activation": "relu"},
    ),
    "coupling, 1-D": ("coupling", (1,), (2,), {}),
    "coupling, 1-D, orthogonal": ("coupling", (1,), (1,), {"mixing": "orthogonal"}),
    "coupling, 3-D": ("coupling", (3,), (2,), {}),
    "coupling, 5-D": ("coupling", (5,), (2,), {}),
    "coupling, 5-D, orthogonal": ("coupling", (5,), (4,), {"mixing": "orthogonal"}),
    "chint": ("chint", (2,), (2,), {}),
    "chint, 8-D": ("chint", (8,), (2, 4), {}),
    "splines": ("spline_latent", (2,), (2,), {"base": BASE}),
    "splines, 1-D": ("spline_latent", (1,), (2,), {"base": {**BASE, "model_shape": (1,)}}),
    "splines, 5-D": ("spline_latent", (5,), (2,), {"base": {**BASE, "model_shape": (5,)}}),
    "coupling, images": ("coupling", (1, 4, 8), (2, 4, 8), {"levels": 2}),
    "coupling, images, checkpoint": (
        "coupling",
        (1, 4, 4),
        (1, 4, 4),
        {"levels": 1, "memory": "checkpoint"},
    ),
    "coupling, images, invert": (
        "coupling",
        (1, 4, 4),
        (1, 4, 4),
        {"levels": 1, "memory": "invert"},
    ),
    "coupling, images, permutation, no actnorm": (
        "coupling",
        (1, 4, 4),
        (1, 4, 4),
        {"levels": 2, "mixing": "permutation", "actnorm": False},
    ),
    "coupling, images, multiscale": (
        "coupling",
        (3, 8, 4),
        (1, 8, 4),
        {"levels": 2, "multiscale": True, "inner_kernel": 3},
    ),
    "coupling, images of four pixels": ("coupling", (1, 2, 2), (1, 2, 2), {"levels": 1}),
    "chint, images": ("chint", (2, 4, 6), (2, 4, 6), {}),
    "chint, images, checkpoint": ("chint", (1, 4, 4), (1, 4, 4), {"memory": "checkpoint"}),
    "chint, images, invert": ("chint", (1, 4, 4), (1, 4, 4), {"memory": "invert"}),
    "chint, images of four pixels": ("chint", (1, 2, 2), (1, 2, 2), {}),
}
PLANE = [name for name, (_, shape, *_) in CASES.items() if shape == (2,)]
IMAGES = [name for name, (_, shape, *_) in CASES.items() if len(shape) == 3]


def fresh(case: str, **settings: object) -> Flow:
    """A flow with initial weights in float64."""
    name, model_shape, data_shape, given = CASES[case]
    torch.manual_seed(0)
    flow = build_flow(
        name, model_shape, data_shape, **{"depth": DEPTH, "hidden": HIDDEN, **given, **settings}
    )
    if name == "spline_latent":
        flow.wake()
    return flow.double()


def randomised(case: str, seed: int = 1, spread: float = 0.2, **settings: object) -> Flow:
    """The same with every weight moved; less for images, whose kernels sum over more inputs. Those
    that wait for one observation are trained as well.
    """
    flow, generator = fresh(case, **settings), torch.Generator().manual_seed(seed)
    flow.requires_grad_(True)
    spread = spread / 4 if case in IMAGES else spread
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += spread * torch.randn(
                parameter.shape, generator=generator, dtype=parameter.dtype
            )
    return flow


def pairs(
    flow: Flow, batch: int = BATCH, data_batch: int | None = None, seed: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *flow.model_shape, generator=generator, dtype=torch.float64)
    return x, torch.randn(
        data_batch or batch, *flow.data_shape, generator=generator, dtype=torch.float64
    )


every_flow = pytest.mark.parametrize("case", CASES)


@every_flow
def test_inverse_undoes_forward_and_back(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow)
    z, log_determinant = flow(x, y)
    again, log_determinant_inverse = flow.inverse(z, y)
    assert z.shape == x.shape and log_determinant.shape == (BATCH,)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow(flow.inverse(x, y)[0], y)[0], x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_determinant_inverse, -log_determinant, rtol=0, atol=1e-10)


@every_flow
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_determinant_is_that_of_the_jacobian(case: str, direction: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow)
    transform = getattr(flow, direction)
    size = x[0].numel()
    jacobians = [
        jacobian(lambda row, i=i: transform(row[None], y[i : i + 1])[0][0], x[i]).reshape(
            size, size
        )
        for i in range(BATCH)
    ]
    exact = [matrix.slogdet()[1] for matrix in jacobians]
    torch.testing.assert_close(transform(x, y)[1], torch.stack(exact), rtol=0, atol=1e-9)


def unreached(flow: Flow) -> set[tuple[str, int]]:
    """Parameters without a gradient; a tensor that stacks the blocks counts once for each block."""
    rows = []
    for name, parameter in flow.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        rows += [
            (name, k, row)
            for k, row in enumerate(gradient if len(gradient) == DEPTH else [gradient])
        ]
    assert all(row.isfinite().all() for _, _, row in rows)
    return {(name, index) for name, index, row in rows if not row.any()}


def last_data_couplings(flow: Flow) -> set[tuple[str, int]]:
    """Of chint: the data lane's couplings after the last y_p, which only z_y and so only the joint
    density contains.
    """
    return {
        (name, DEPTH - 1)
        for name, _ in flow.named_parameters()
        if name.startswith("data_lane.levels")
    }


@every_flow
def test_gradients_reach_every_parameter(case: str) -> None:
    """Of chint too, by weights where no residual block is dead: its closing relu silences about one
    in twelve at random.
    """
    flow = randomised(case, seed=6)
    x, y = pairs(flow, batch=64)

    flow.log_prob(x, y).sum().backward()
    assert unreached(flow) == last_data_couplings(flow), "forward"

    flow.zero_grad()
    flow.log_prob_pairs(x, y).sum().backward()
    assert unreached(flow) == set(), "pairs"

    flow.zero_grad()
    sample, log_q = flow.sample_with_log_prob(y, 64, torch.Generator().manual_seed(3))
    (log_q + sample.square().flatten(1).sum(1)).sum().backward()
    assert unreached(flow) == last_data_couplings(flow), "inverse"


@every_flow
@pytest.mark.parametrize("kind", ["density", "density of samples", "score", "pulled back"])
def test_gradients_once_and_twice_against_finite_differences(case: str, kind: str) -> None:
    """In the weights and in x (or z). The last two kinds are made of gradients already: they need a
    double backward, which `memory: invert` refuses.
    """
    flow = randomised(case, spread=0.1)
    x, y = pairs(flow)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    inputs = [*flow.parameters(), x.requires_grad_()]

    def value() -> torch.Tensor:
        if kind == "density":
            return flow.log_prob_pairs(x, y).sum()
        if kind == "density of samples":
            sample, log_determinant = flow.inverse(x, y)
            return (sample * v).sum() - log_determinant.sum()
        # score matching |grad_x log q|^2, or |J^T v|^2 with J of the sampling map
        inner = flow.log_prob(x, y).sum() if kind == "score" else (flow.inverse(x, y)[0] * v).sum()
        return torch.autograd.grad(inner, x, create_graph=True)[0].square().sum()

    def moved(step: float) -> torch.Tensor:
        with torch.no_grad():
            for tensor, change in zip(inputs, direction, strict=True):
                tensor += step * change
        return value().detach()

    if kind in ("score", "pulled back") and "invert" in case:
        with pytest.raises(
            PflowError, match="cannot be differentiated again: set `memory: checkpoint`"
        ):
            torch.autograd.grad(value(), inputs, allow_unused=True)
        return
    gradients = torch.autograd.grad(value(), inputs, allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    direction = [
        torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in inputs
    ]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    step = 1e-6
    difference = moved(step) - moved(-2 * step)
    assert abs(slope) > 1e-3
    torch.testing.assert_close(slope.detach(), difference / (2 * step), rtol=1e-5, atol=1e-6)


@every_flow
def test_state_dict_round_trip(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow)
    fresh_flow = fresh(case, **({"seed": 7} if case.startswith("coupling") else {}))
    with torch.no_grad():
        next(fresh_flow.parameters()).add_(1.0)
    flow.initialise_inverse(50, y[:1], torch.Generator().manual_seed(0))
    assert not torch.equal(fresh_flow(x, y)[0], flow(x, y)[0])
    fresh_flow.load_state_dict(flow.state_dict(), strict=True)
    assert fresh_flow.initialised
    for mine, theirs in zip(
        (*flow(x, y), *flow.inverse(x, y)),
        (*fresh_flow(x, y), *fresh_flow.inverse(x, y)),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


@every_flow
def test_rows_of_a_batch_are_independent(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow)
    for transform in (flow.forward, flow.inverse):
        whole = transform(x, y)
        rows = [transform(x[i : i + 1], y[i : i + 1]) for i in range(BATCH)]
        for part, alone in zip(whole, zip(*rows, strict=True), strict=True):
            torch.testing.assert_close(part, torch.cat(alone), rtol=0, atol=1e-12)


@every_flow
def test_one_observation_serves_all_x(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow, data_batch=1)
    repeated = y.expand(BATCH, *flow.data_shape)
    for transform in (flow.forward, flow.inverse):
        for once, copied in zip(transform(x, y), transform(x, repeated), strict=True):
            assert once.shape == copied.shape
            torch.testing.assert_close(once, copied, rtol=0, atol=1e-11)


@every_flow
def test_the_density_depends_on_y(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow, data_batch=1)
    assert (flow.log_prob(x, y) - flow.log_prob(x, y + 0.5)).abs().max() > 1e-3


@pytest.mark.parametrize("case", PLANE)
def test_density_integrates_to_one_and_samples_have_its_moments(case: str) -> None:
    """Midpoint rule in 2-D on a box far wider than the samples: mass 1, and the moments of
    exp(log_prob).
    """
    flow = randomised(case, seed=5).requires_grad_(False)
    y = pairs(flow, data_batch=1)[1]
    n, cells = 20_000, 400
    sample = flow.sample(y, n, torch.Generator().manual_seed(8))
    centre, deviation = sample.mean(0), sample.std(0)

    axes = [
        c + torch.linspace(-12, 12, cells, dtype=torch.float64) * d
        for c, d in zip(centre, deviation, strict=True)
    ]
    grid = torch.cartesian_prod(*axes)
    mass = flow.log_prob(grid, y).exp() * math.prod(float(axis[1] - axis[0]) for axis in axes)
    assert abs(mass.sum() - 1) < 2e-3

    offset = grid - centre
    mean = (mass[:, None] * offset).sum(0)
    covariance = (mass[:, None, None] * offset[:, :, None] * offset[:, None, :]).sum(0) - mean[
        :, None
    ] * mean
    torch.testing.assert_close(
        mean / deviation, torch.zeros(2, dtype=torch.float64), rtol=0, atol=5 / n**0.5
    )
    scale = deviation[:, None] * deviation
    torch.testing.assert_close(covariance / scale, sample.T.cov() / scale, rtol=0, atol=0.08)


@pytest.mark.parametrize("case", [name for name in IMAGES if "four pixels" in name])
def test_density_of_images_integrates_to_one_and_samples_have_its_moments(case: str) -> None:
    """By importance sampling from a Gaussian wider than the samples: mass 1, and the moments of
    exp(log_prob).
    """
    flow = randomised(case, seed=6, spread=0.6).requires_grad_(False)
    y = pairs(flow, data_batch=1)[1]
    n = 20_000
    sample = flow.sample(y, n, torch.Generator().manual_seed(8)).flatten(1)
    centre, covariance = sample.mean(0), sample.T.cov()
    wide = torch.distributions.MultivariateNormal(centre, 2 * covariance)
    torch.manual_seed(9)
    points = wide.sample((n,))
    weight = (flow.log_prob(points.view(n, *flow.model_shape), y) - wide.log_prob(points)).exp()
    error = weight.std() / n**0.5
    assert error < 0.02 and abs(weight.mean() - 1) < 5 * error

    offset = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (points - centre).T, upper=False
    ).T
    size = offset.shape[1]
    torch.testing.assert_close(
        (weight[:, None] * offset).mean(0),
        torch.zeros(size, dtype=torch.float64),
        rtol=0,
        atol=0.05,
    )
    second = torch.einsum("n,ni,nj->ij", weight, offset, offset) / n
    torch.testing.assert_close(second, torch.eye(size, dtype=torch.float64), rtol=0, atol=0.12)


@every_flow
def test_samples_come_with_their_log_density(case: str) -> None:
    flow = randomised(case)
    y = pairs(flow, data_batch=1)[1]
    x, log_q = flow.sample_with_log_prob(y, 16, torch.Generator().manual_seed(9))
    assert x.shape == (16, *flow.model_shape) and log_q.shape == (16,)
    torch.testing.assert_close(log_q, flow.log_prob(x, y), rtol=0, atol=1e-9)


@every_flow
def test_a_generator_makes_samples_reproducible(case: str) -> None:
    flow = randomised(case)
    x, y = pairs(flow)

    def draw(seed: int) -> torch.Tensor:
        return flow.sample(y[:1], 8, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(
        draw(1), flow.sample_with_log_prob(y[:1], 8, torch.Generator().manual_seed(1))[0]
    )
    assert flow.sample(y, BATCH).shape == x.shape  # one draw for each of several observations


@every_flow
def test_initialise_depends_on_the_data_once(case: str) -> None:
    flow = fresh(case)
    x, y = pairs(flow, batch=200)
    x, y = 3 * x + 5, 2 * y - 1
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.initialise(x, y)
    after = {name: value.clone() for name, value in flow.state_dict().items()}
    assert flow.initialised and not before["initialised"]
    assert any(
        not torch.equal(before[name], after[name]) for name in before if name != "initialised"
    )
    flow.initialise(x - 7, 10 * y)
    flow.initialise_inverse(50, y[:1])
    assert all(torch.equal(value, after[name]) for name, value in flow.state_dict().items())


@pytest.mark.parametrize(
    "case", [name for name in CASES if name.startswith("coupling") and name not in IMAGES]
)
def test_coupling_starts_as_the_normalisation_of_x(case: str) -> None:
    """Before `initialise` the map is orthogonal (log-determinant 0); after it, z has mean 0 and
    variance 1.
    """
    flow = fresh(case)
    x, y = pairs(flow, batch=200)
    z, log_determinant = flow(x, y)
    torch.testing.assert_close(log_determinant, torch.zeros(200, dtype=torch.float64))
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1))
    x = 3 * x + 5
    flow.initialise(x, 2 * y - 1)
    torch.testing.assert_close(flow.data_shift, (2 * y - 1).flatten(1).mean(0))
    torch.testing.assert_close(flow.data_scale, 1 / (2 * y).flatten(1).std(0))
    if "actnorm" not in case:
        z = flow(x, 2 * y - 1)[0]
        torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]), rtol=0, atol=1e-10)
        if "orthogonal" not in case:  # rotated, only the sum over the channels is known
            torch.testing.assert_close(z.std(0), torch.ones_like(z[0]))
        torch.testing.assert_close(
            z.var(0).mean(), torch.ones((), dtype=torch.float64), rtol=0, atol=0.2
        )


@pytest.mark.parametrize("case", [name for name in IMAGES if name.startswith("coupling")])
def test_image_coupling_starts_as_the_normalisation_of_x(case: str) -> None:
    """Before `initialise` the map is orthogonal; after it, every channel of the Haar coefficients
    of z has mean 0, and 1 as mean square.
    """
    flow = fresh(case)
    x, y = pairs(flow, batch=200)
    z, log_determinant = flow(x, y)
    torch.testing.assert_close(log_determinant, torch.zeros(200, dtype=torch.float64))
    torch.testing.assert_close(z.square().flatten(1).sum(1), x.square().flatten(1).sum(1))
    x, y = 3 * x + 5, 2 * y - 1
    flow.initialise(x, y)
    normal = flow._normalised(y).transpose(0, 1).flatten(1)
    torch.testing.assert_close(
        normal.mean(1), torch.zeros(len(normal), dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(normal.std(1), torch.ones(len(normal), dtype=torch.float64))
    if "actnorm" not in case:
        coefficients = flow._parted(flow(x, y)[0])[0]
        assert coefficients.mean((0, 2, 3)).abs().max() < 1e-10
        torch.testing.assert_close(
            coefficients.square().mean(), torch.ones((), dtype=torch.float64), rtol=0, atol=0.01
        )


@pytest.mark.parametrize("size", [2, 4, 6])
@pytest.mark.parametrize("seed", range(3))
def test_two_blocks_change_every_channel(size: int, seed: int) -> None:
    """An unchanged channel would leave a row of the Jacobian with a single entry."""
    torch.manual_seed(0)
    flow = build_flow("coupling", (size,), (1,), depth=2, hidden=8, seed=seed).double()
    with torch.no_grad():
        flow.conditioner.last.weight.normal_()
    x, y = pairs(flow, batch=1)
    matrix = jacobian(lambda row: flow(row[None], y)[0][0], x[0])
    assert ((matrix != 0).sum(1) > size // 2).all()
