"""Maintained samplers and variational methods on the same target, counted in the same evaluations:
nutpie's NUTS, Pyro's normal guides.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch
from accuracy import Reference
from torch import Tensor

from pflow.inference.nuts import run_nuts
from pflow.inference.target import Target

__all__ = ["MARKS", "normal_guide", "nuts"]

MARKS = (64, 128, 256, 512, 1024, 2048, 4096, 10_000)
FEWEST = 10  # draws of a chain that have moments
PARTICLES, STEP_SIZE, LAST = 16, 0.03, 0.03  # LAST: share of the step size that is left at the end


def nuts(
    reference: Reference,
    start: Tensor,
    seed: int,
    draws: int = 2500,
    tune: int = 300,
    marks: Sequence[int] = MARKS,
) -> Iterator[tuple[int, dict[str, float]]]:
    """(evaluations, errors) of one chain of NUTS that starts at one of the draws `start`; what
    adaptation and coordinates cost is counted, their draws are not used.
    """
    target = Target(reference.problem, reference.y.double())
    chains = run_nuts(
        target, draws=draws, tune=tune, chains=1, seed=seed, start=start.double().numpy()
    )
    x = chains.x[0].reshape(len(chains.x[0]), -1)
    spent = chains.evaluations[0] + target.ledger.points - chains.evaluations[0, -1]
    for mark in marks:
        known = int((spent <= mark).sum())
        if known >= FEWEST:
            yield int(spent[known - 1]), reference.of_draws(x[:known])


class _LogDensity(torch.autograd.Function):
    """log p~ for autograd, by the target's own value and score."""

    @staticmethod
    def forward(ctx, x: Tensor, target: Target) -> Tensor:
        found = target.evaluate(x)
        ctx.save_for_backward(found.score)
        return found.log_density

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[:, None] * ctx.saved_tensors[0], None


def normal_guide(
    kind: str, reference: Reference, start: Tensor, seed: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """(evaluations, errors) of ADVI (`advi`, independent unknowns) or a normal distribution with
    all covariances (`full_rank`), by stochastic variational inference with Pyro from the mean and
    the spread of the draws `start`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyro
        from pyro.infer import SVI, Trace_ELBO
        from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, init_to_value
    target, size = Target(reference.problem, reference.y), start.shape[1]

    def model() -> None:
        x = pyro.sample(
            "x",
            pyro.distributions.ImproperUniform(
                torch.distributions.constraints.real_vector, (), (size,)
            ),
        )
        pyro.factor(
            "posterior", _LogDensity.apply(x.reshape(-1, size), target).reshape(x.shape[:-1])
        )

    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    guide = {"advi": AutoDiagonalNormal, "full_rank": AutoMultivariateNormal}[kind]
    guide = guide(
        model,
        init_loc_fn=init_to_value(values={"x": start.mean(0)}),
        init_scale=float(start.std(0).mean()),
    )
    steps = MARKS[-1] // PARTICLES
    optimiser = pyro.optim.ClippedAdam({"lr": STEP_SIZE, "lrd": LAST ** (1 / steps)})
    inference = SVI(
        model,
        guide,
        optimiser,
        Trace_ELBO(num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=0),
    )
    marks = list(MARKS)
    for step in range(1, steps + 1):
        inference.step()
        if target.ledger.evaluations >= marks[0] or step == steps:
            yield marks.pop(0), _judge(guide, reference)


@torch.no_grad()
def _judge(guide, reference: Reference) -> dict[str, float]:
    normal = guide.get_posterior()
    x = normal.sample((reference.enough(),))
    log_q = normal.log_prob(x)
    return reference.of_density(x, log_q if log_q.ndim == 1 else log_q.sum(-1))
