"""The Gaussian of the latent: exact where the posterior is Gaussian, absent where it would not
help, and honest about the spread.
"""

from functools import partial

import pytest
import torch

from pflow.config.methods import ReverseKLSettings, ScoreReplaySettings
from pflow.errors import PflowError
from pflow.finetuning.correction import correct_latent, kept_for_latent, require_correctable
from pflow.flows import build_flow
from pflow.flows.latent import LatentGaussian
from pflow.inference.target import Target
from pflow.objectives import latent_correction
from pflow.objectives.latent_correction import (
    MOST_UNKNOWNS,
    LatentCorrection,
    fit_latent,
    latent_scores,
)
from pflow.problems import build_problem


class Diagonal(torch.nn.Module):
    """x = m + s z: all that a flow without couplings can do."""

    model_shape = (16,)

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = torch.nn.Parameter(mean), torch.nn.Parameter(std)

    def forward(self, x, y):
        return (x - self.mean) / self.std, -self.std.log().sum().expand(len(x))

    def inverse(self, z, y):
        return self.mean + self.std * z, self.std.log().sum().expand(len(z))


@pytest.fixture
def problem():
    return build_problem("gaussian", side=4)


def target_of(problem, seed=1):
    return Target(
        problem, problem.simulate(1, torch.Generator().manual_seed(seed), "high")[1].double()
    )


def mean_field(exact):
    """The diagonal Gaussian with the smallest KL(q || posterior): too narrow by the correlations it
    leaves out.
    """
    precision = torch.linalg.inv(exact.covariance)
    return Diagonal(exact.mean.double() + 0.3, precision.diagonal().rsqrt())


def test_scores_of_the_latent_are_the_gradient_of_the_density_seen_there():
    torch.manual_seed(0)
    flow = build_flow(name="coupling", model_shape=[4], data_shape=[4], depth=3, hidden=8).double()
    problem = build_problem("gaussian", side=2)
    target = target_of(problem)
    flow.initialise_inverse(8, target.summary)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    x = problem.sample_prior(5, torch.Generator().manual_seed(2)).double()
    z, score = latent_scores(flow, target.summary, x, target.evaluate(x).score)
    z = z.requires_grad_(True)
    image, log_determinant = flow.inverse(z, target.summary)
    density = (
        problem.log_likelihood(target.y, problem.high_fidelity(image))
        + problem.log_prior(image)
        + log_determinant
    )
    (expected,) = torch.autograd.grad(density.sum(), z)
    torch.testing.assert_close(score, expected, rtol=1e-8, atol=1e-8)


def test_a_gaussian_posterior_is_found_from_more_points_than_unknowns(problem):
    target = target_of(problem)
    exact = problem.exact_posterior(target.y)
    flow = mean_field(exact)
    x = flow.inverse(
        torch.randn(60, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64), None
    )[0].detach()
    found = fit_latent(flow, target.summary, target.evaluate(x))[0]()
    root = flow.std.detach()[:, None] * found.root
    covariance = root @ root.T
    mean = flow.mean.detach() + flow.std.detach() * found.mean
    assert found.error < 1e-3 * found.flow_error and found.points == 60
    std = exact.covariance.diagonal().sqrt()
    assert flow.std.detach().div(std).min() < 0.9  # what there was to repair
    torch.testing.assert_close(
        covariance.diagonal().sqrt() / std, torch.ones(16, dtype=torch.float64), rtol=0.02, atol=0
    )
    torch.testing.assert_close(
        (mean - exact.mean) / std, torch.zeros(16, dtype=torch.float64), rtol=0, atol=0.02
    )


def test_invalid_points_and_points_far_away_do_not_matter(problem):
    target = target_of(problem)
    exact = problem.exact_posterior(target.y)
    flow = mean_field(exact)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(80, 16, generator=generator, dtype=torch.float64)
    evaluated = target.evaluate(flow.inverse(z, None)[0].detach())
    evaluated.score[:3] += 1e6
    evaluated.valid[:3] = False
    evaluated.x[3:5] += (
        1e4 * flow.std.detach()
    )  # left behind: its score is no longer that of its place
    found = fit_latent(flow, target.summary, evaluated)[0]()
    std = exact.covariance.diagonal().sqrt()
    corrected = (found.root.square().sum(1).sqrt() * flow.std.detach()) / std
    assert found.points == 77 and (corrected - 1).abs().max() < 0.05


def test_nothing_is_corrected_where_the_flow_is_the_posterior(problem):
    target = target_of(problem)
    flow = Diagonal(torch.zeros(16, dtype=torch.float64), torch.ones(16, dtype=torch.float64))
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    evaluated = target.evaluate(x)
    noise = 0.1 * torch.randn(
        x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    evaluated.score.copy_(-x + noise)
    assert fit_latent(flow, target.summary, evaluated) == []


@pytest.mark.parametrize("points", [0, 1, 3])
def test_too_few_points_correct_nothing(problem, points):
    target = target_of(problem)
    flow = mean_field(problem.exact_posterior(target.y))
    x = torch.zeros(points, 16, dtype=torch.float64)
    evaluated = target.evaluate(torch.zeros(4, 16, dtype=torch.float64))
    cut = type(evaluated)(
        x,
        *(
            getattr(evaluated, name)[:points]
            for name in ("log_likelihood", "log_prior", "score", "valid", "prediction")
        ),
    )
    assert fit_latent(flow, target.summary, cut) == []


@pytest.fixture
def finished(problem):
    """A flow without correlations, trained, with 160 evaluations of its own; and KL(q ||
    posterior).
    """
    target = Target(problem, problem.simulate(1, torch.Generator().manual_seed(1), "high")[1])
    exact = problem.exact_posterior(target.y)
    torch.manual_seed(0)
    architecture = {
        "name": "coupling",
        "model_shape": [16],
        "data_shape": [16],
        "depth": 2,
        "hidden": 4,
    }
    flow = build_flow(**architecture)
    draws = exact.sample(500, torch.Generator().manual_seed(3)).float()
    flow.initialise(draws, target.y.expand(500, -1))
    with torch.no_grad():
        target.evaluate(flow.sample(target.y, 160, torch.Generator().manual_seed(0)))

    @torch.no_grad()
    def divergence(flow) -> float:
        x, log_q = flow.sample_with_log_prob(target.y, 4000, torch.Generator().manual_seed(5))
        return float((log_q - exact.log_density(x)).mean())

    return flow, architecture, target, divergence


def test_the_corrected_flow_is_rebuilt_from_its_architecture_and_is_closer(finished):
    flow, architecture, target, divergence = finished
    method = ReverseKLSettings(flow="f", start="pretrained", evaluations=800, correct_latent=True)
    assert kept_for_latent(method) == 200
    result = correct_latent(flow, architecture, method, target, torch.Generator().manual_seed(1))
    corrected, described, correction = result.flow, result.architecture, result.correction
    assert target.ledger.evaluations == 160 + (200 - 160) + 5 * 32 and correction.points == 160 + 40
    rounds = [0] * 160 + [1] * 40 + [2] * 32 + [3] * 32 + [4] * 32 + [5] * 32 + [6] * 32
    assert target.store.rows["round"].tolist() == rounds  # which weights drew each point
    assert divergence(corrected) < 0.2 * divergence(flow)
    again = build_flow(**described)
    again.load_state_dict(corrected.state_dict())
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    assert isinstance(again, LatentGaussian) and torch.equal(
        again.log_prob(x, target.y), corrected.log_prob(x, target.y)
    )


def test_a_correction_that_lowers_the_elbo_is_refused(finished, monkeypatch):
    flow, architecture, target, _divergence = finished
    too_wide = LatentCorrection(torch.zeros(16), 25 * torch.eye(16), 0.1, 1.0, 160)
    monkeypatch.setattr(
        "pflow.finetuning.correction.fit_latent", lambda *_: [lambda: too_wide] * 31
    )
    method = ReverseKLSettings(flow="f", start="pretrained", evaluations=800, correct_latent=True)
    kept = correct_latent(flow, architecture, method, target, torch.Generator().manual_seed(0))
    assert kept.flow is flow and kept.architecture is architecture and kept.correction is None
    assert target.ledger.evaluations == 160 + 200


@pytest.mark.parametrize("first_good", [0, 1, 9, 19])
def test_of_corrections_that_do_not_lower_the_elbo_the_widest_is_kept(
    finished, monkeypatch, first_good
):
    """20 corrections, told apart by their mean."""
    flow, architecture, target, _ = finished
    numbered = [
        partial(LatentCorrection, torch.full((16,), float(number)), torch.eye(16), 0.1, 1.0, 160)
        for number in range(20)
    ]
    monkeypatch.setattr("pflow.finetuning.correction.fit_latent", lambda *_: numbered)

    def lower(flow, *_):
        return isinstance(flow, LatentGaussian) and float(flow.latent.mean.detach()[0]) < first_good

    monkeypatch.setattr(
        "pflow.finetuning.correction._elbo",
        lambda *arguments: torch.tensor(-1.0 if lower(*arguments) else 0.0),
    )
    method = ReverseKLSettings(flow="f", start="pretrained", evaluations=800, correct_latent=True)
    best = correct_latent(flow, architecture, method, target, torch.Generator().manual_seed(0))
    latent_mean = float(best.flow.latent.mean.detach()[0])
    assert float(best.correction.mean[0]) == latent_mean == first_good


@pytest.mark.parametrize(
    ("flow_error", "error", "proven"), [(0.3, 0.1, True), (0.3, 0.2, False), (1.2, 0.2, False)]
)
def test_without_evaluations_to_check_it_a_correction_must_be_clear(
    finished, monkeypatch, flow_error, error, proven
):
    flow, architecture, target, _ = finished
    monkeypatch.setattr(
        "pflow.finetuning.correction.fit_latent",
        lambda *_: [
            lambda: LatentCorrection(torch.zeros(16), torch.eye(16), error, flow_error, 160)
        ],
    )
    method = ScoreReplaySettings(flow="f", start="pretrained", evaluations=160, correct_latent=True)
    result = correct_latent(flow, architecture, method, target, torch.Generator().manual_seed(0))
    assert (result.correction is not None) is proven
    assert target.ledger.evaluations == 160


def test_too_many_unknowns_are_refused_before_anything_is_spent():
    method = ReverseKLSettings(flow="f", start="pretrained", evaluations=10, correct_latent=True)
    require_correctable(method, "experiments.e.finetune.m", (1, 32, 32))
    with pytest.raises(
        PflowError,
        match=(
            rf"`correct_latent` .* \(=65536\), .* at most {MOST_UNKNOWNS} .*: remove it from"
            r" experiments.e.finetune.m"
        ),
    ):
        require_correctable(method, "experiments.e.finetune.m", (1, 256, 256))


@pytest.mark.parametrize("narrowest", [0.5, 0.02])
def test_no_direction_becomes_wider_than_the_widest(narrowest: float) -> None:
    """Both ways to the covariance: by Cholesky factors where no direction is too wide, by
    eigenvectors where one is.
    """
    turn = torch.linalg.qr(
        torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).Q
    precisions = torch.linspace(narrowest, 3.0, 12, dtype=torch.float64)
    expected = (turn / precisions.clamp(min=1 / latent_correction.WIDEST)) @ turn.T
    root = latent_correction.bounded_inverse_root((turn * precisions) @ turn.T)
    assert torch.equal(root, root.tril()) and (root.diagonal() > 0).all()
    found = root @ root.T
    torch.testing.assert_close(found, expected)
