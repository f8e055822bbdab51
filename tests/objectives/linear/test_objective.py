"""Images under a linear F: evaluations end once F is known, and training needs none."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
import torch

from pflow.config.methods import SurrogateSettings
from pflow.errors import PflowError
from pflow.execution.progress import Progress
from pflow.finetuning.objectives import objective_of, trains_given_weights, wrap
from pflow.flows import build_flow
from pflow.flows.latent import LatentGaussian
from pflow.flows.stationary import StationaryFlow
from pflow.inference.target import Target
from pflow.objectives.linear.applies import learns_linear
from pflow.objectives.linear.objective import LinearSurrogate
from pflow.problems import build_problem
from pflow.problems.noise.student import StudentTNoise
from pflow.problems.prior_override import PriorOverride
from pflow.problems.priors.density import CallablePrior
from pflow.problems.seismic import Seismic
from pflow.problems.stationary import StationaryGaussian
from pflow.storage.checkpoint import Checkpoint
from pflow.training import train
from tests.support.fine_tuning import NoMonitor, divergence

HEIGHT, WIDTH = 24, 16
SHAPE = (1, HEIGHT, WIDTH)
SIZE = HEIGHT * WIDTH
METHOD = SurrogateSettings(flow="coupling", start="random", evaluations=320, steps=24)


def stationary():
    rows, columns = torch.meshgrid(
        torch.fft.fftfreq(HEIGHT), torch.fft.fftfreq(WIDTH), indexing="ij"
    )
    return StationaryGaussian((0.02 + torch.exp(-20 * (rows**2 + columns**2)))[None].double())


def gaussian_images():
    """Half of a random convolution of 24 x 16 pixels, under a stationary Gaussian prior."""
    return PriorOverride(Seismic(height=HEIGHT, width=WIDTH), stationary())


def heavy_images():
    """The same under a prior with heavier tails: the same spectrum, |white|^2 in a Student's t."""
    normal = stationary()
    freedom = 400.0

    def white_square(x):
        return torch.fft.fft2(x, norm="ortho").abs().square().div(normal.spectrum.to(x))

    def log_density(x):
        square = white_square(x).flatten(1).sum(1)
        return -0.5 * (freedom + SIZE) * torch.log1p(square / freedom)

    def sample(n, generator):
        squares = torch.randn(n, int(freedom), generator=generator).square()
        scale = squares.mean(1).rsqrt()
        return normal.sample(n, generator).float() * scale[:, None, None, None]

    prior = CallablePrior(SHAPE, log_density, sample)
    return PriorOverride(Seismic(height=HEIGHT, width=WIDTH), prior)


def observation(problem):
    return problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]


def given_flow():
    torch.manual_seed(0)
    architecture = {"name": "coupling", "model_shape": SHAPE, "data_shape": SHAPE}
    architecture |= {"depth": 1, "hidden": 4}
    flow = build_flow(**architecture)
    flow.initialised.fill_(True)
    return flow, architecture


def run(problem, y, folder, method=METHOD, interval=None):
    flow, _ = wrap(*given_flow(), method, problem)
    target = Target(problem, y)
    objective, optimiser = objective_of(method, target)
    checkpoint = Checkpoint(folder / "state.safetensors", "test")
    if interval is not None:
        checkpoint.interval = interval
    state = train(
        flow,
        objective,
        optimiser,
        generator=torch.Generator().manual_seed(3),
        monitor=NoMonitor(),
        checkpoint=checkpoint,
        progress=Progress("", io.StringIO()),
    )
    return flow, objective, state


def test_a_gaussian_prior_leaves_nothing_to_train(tmp_path):
    problem = gaussian_images()
    y = observation(problem)
    flow, objective, _ = run(problem, y, tmp_path)
    assert isinstance(flow, StationaryFlow)
    assert divergence(flow, problem.exact_posterior(y), y, 500) < 1e-2
    spent = objective.target.ledger.evaluations
    assert SIZE // 2 < spent < METHOD.evaluations  # half of the entries are recorded
    assert objective.outcome["operator_rank"] == SIZE // 2
    assert objective.outcome["model_error_nats"] < 0.01 and not objective.warning
    assert "known after" in objective.stop_reason


def test_too_few_evaluations_leave_a_wide_posterior_and_a_warning(tmp_path):
    problem = gaussian_images()
    y = observation(problem)
    method = dataclasses.replace(METHOD, evaluations=100)
    flow, objective, _ = run(problem, y, tmp_path, method)
    assert objective.target.ledger.evaluations == 100
    assert "the budget of 100 evaluations is spent" in objective.stop_reason
    assert "more evaluations would narrow" in objective.warning
    exact = problem.exact_posterior(y)
    x = flow.sample(y, 300, torch.Generator().manual_seed(0))
    truth = exact.sample(300, torch.Generator().manual_seed(0))
    assert x.std(0).mean() > 1.05 * truth.std(0).mean()


def test_one_evaluation_leaves_the_prior_and_says_so(tmp_path):
    problem = gaussian_images()
    y = observation(problem)
    flow, objective, _ = run(problem, y, tmp_path, dataclasses.replace(METHOD, evaluations=1))
    assert objective.target.ledger.evaluations == 1 and objective.outcome["operator_rank"] == 0
    assert "the budget of 1 evaluations is spent" in objective.stop_reason
    x = flow.sample(y, 500, torch.Generator().manual_seed(0)).detach()
    expected = problem.prior.sample(500, torch.Generator().manual_seed(0))
    assert float(x.std()) == pytest.approx(float(expected.std()), rel=0.02)
    assert x.mean(0).abs().max() < 0.3 * expected.std()


def test_another_prior_is_learnt_by_the_flow_and_its_latent(tmp_path):
    problem = heavy_images()
    y = observation(problem)
    flow, objective, state = run(problem, y, tmp_path)
    assert isinstance(flow, LatentGaussian)
    found = objective.outcome
    assert objective.target.ledger.evaluations < METHOD.evaluations
    assert found["latent_gain_nats"] > 10  # a flow of one block, in 12 steps, is far off
    assert found["latent_score_error"] < 1.0
    assert 1.0 <= found["latent_spread"] < 1.3
    assert "score error" in objective.stop_reason
    losses = [row["objective_nats"] for row in state.rows if "objective_nats" in row]
    assert losses[-1] < losses[0]


def test_the_features_of_every_pixel_are_trained_for_the_observation(tmp_path):
    problem = heavy_images()
    flow, _, _ = run(problem, observation(problem), tmp_path)
    for features in flow.base.local_features:
        assert features[0].std((1, 2)).min() > 1e-5  # differs from pixel to pixel


def test_the_flow_is_trained_under_the_latent_that_was_learnt_before(tmp_path, monkeypatch):
    """Twice a latent: where the step size begins to fall, and at the end."""
    seen, loss = [], LinearSurrogate._path_loss

    def watched(self, flow, posterior, generator):
        result = loss(self, flow, posterior, generator)
        unchanged = bool(flow.closed.mean.eq(0).all())
        latent = [name for name, part in flow.named_parameters() if part.requires_grad]
        seen.append((self.schedule.step, self.schedule.full, unchanged))
        assert latent and all(name.startswith("base.") for name in latent)
        return result

    monkeypatch.setattr(LinearSurrogate, "_path_loss", watched)
    problem = heavy_images()
    _, objective, _ = run(problem, observation(problem), tmp_path)
    assert len(objective.latent_gains) == 2 and len(seen) == METHOD.steps
    assert {unchanged for step, full, unchanged in seen if step <= full} == {True}
    assert {unchanged for step, full, unchanged in seen if step > full} == {False}


def test_an_interrupted_run_ends_in_the_same_weights(tmp_path, monkeypatch):
    problem = heavy_images()
    y = observation(problem)
    whole = run(problem, y, tmp_path / "whole")[0].state_dict()
    for phase in ("learn", "train", "latent", "last latent"):
        began = LinearSurrogate.begin

        def stop(self, flow, generator, phase=phase, began=began):
            done = began(self, flow, generator)
            deep = len(self.batches) > 2 if phase == "learn" else self.schedule.step > 3
            if phase.endswith("latent"):
                deep = len(self.latent.elbo) > 1 and len(self.latent_gains) == phase.count("last")
            if self.phase == phase.split()[-1] and deep:
                raise KeyboardInterrupt
            return done

        with monkeypatch.context() as patched:
            patched.setattr(LinearSurrogate, "begin", stop)
            with pytest.raises(KeyboardInterrupt):
                run(problem, y, tmp_path / phase, interval=0.0)
        again = run(problem, y, tmp_path / phase)[0].state_dict()
        assert all(torch.equal(part, again[name]) for name, part in whole.items()), phase


def test_where_it_is_taken():
    images = gaussian_images()
    assert learns_linear(images) and not trains_given_weights(METHOD, images)
    assert learns_linear(heavy_images()) and trains_given_weights(METHOD, heavy_images())
    few = PriorOverride(Seismic(height=16, width=16), images.prior)
    assert not learns_linear(few)  # 256 parameters
    assert not learns_linear(build_problem("gaussian", side=20))  # a prior with a dense root
    tails = heavy_images()
    tails.noise = StudentTNoise(SHAPE, 4.0, 0.2)
    assert not learns_linear(tails)


def test_progress_and_step_size_follow_the_phases():
    problem = gaussian_images()
    objective, _ = objective_of(METHOD, Target(problem, observation(problem)))
    assert objective.fraction() == 0 and objective.learning_rate_factor == 1
    objective.phase = "train"
    for _ in range(METHOD.steps - 2):
        objective.schedule.record(0.0)
    assert 0 < objective.learning_rate_factor < 1
    trained = objective.fraction()
    objective.phase = "latent"
    for _ in range(2):
        objective.schedule.record(0.0)
    assert trained < objective.fraction() < 1 and objective.learning_rate_factor < 1e-12


def test_matrices_that_do_not_fit_are_refused_before_any_evaluation():
    problem = gaussian_images()
    method = dataclasses.replace(METHOD, memory_gb=1e-3)
    target = Target(problem, observation(problem))
    with pytest.raises(PflowError, match="`memory_gb` is 0.001: choose reverse_kl"):
        objective_of(method, target)
    assert target.ledger.points == 0


def test_an_operator_that_is_never_finite_is_told(tmp_path):
    problem = gaussian_images()
    y = observation(problem)
    problem.log_likelihood = lambda y, prediction: prediction.flatten(1).sum(1) * math.nan
    with pytest.raises(PflowError, match="NaN or infinite at every draw of the prior"):
        run(problem, y, tmp_path)


def test_the_prior_is_asked_for_draws_of_the_result_alone(tmp_path):
    """A prior that is a flow costs more than a cheap F, and learning F needs none of it."""
    problem = gaussian_images()
    y = observation(problem)
    asked, log_density = [], problem.prior.log_density

    def counted(x):
        asked.append(len(x))
        return log_density(x)

    problem.prior.log_density = counted
    _, objective, _ = run(problem, y, tmp_path)
    assert sum(asked) == objective.target.ledger.points - sum(objective.batches) == 32
