"""Posteriors whose quality is known, as the arrays that `pflow.diagnostics.summary` takes: sound
ones and broken ones.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pflow.config.trust import VerdictSettings
from pflow.diagnostics.novelty import novelty_p_values
from pflow.diagnostics.summary import against_reference, without_reference
from pflow.diagnostics.verdict import Judgement, judge
from pflow.operators import Operator
from pflow.problems import Gaussian, Rosenbrock

RULES = asdict(VerdictSettings())
DRAWS = 3000


@dataclass
class Case:
    """An approximation q of a posterior: draws, their log q, and the problem that gives the
    target.
    """

    name: str
    problem: Any
    y: torch.Tensor
    x: torch.Tensor
    log_q: Any  # function of x
    fine_tuned: bool = True
    exact: Any = None
    scale: float = 1.0  # of the y that the flow was trained on

    def metrics(self, with_reference: bool) -> dict[str, float]:
        prediction = self.problem.high_fidelity(self.x)
        lp = self.problem.log_likelihood(self.y, prediction) + self.problem.log_prior(self.x)
        log_q = self.log_q(self.x)
        misfit = ((self.y - prediction) / self.problem.noise_std).square().mean(1)
        prior = self.problem.sample_prior(1000, torch.Generator().manual_seed(9), torch.float64)
        found = without_reference(
            self.x,
            log_q,
            lp - log_q,
            misfit,
            self.y.numel(),
            prior_log_likelihood=self.problem.log_likelihood(
                self.y, self.problem.high_fidelity(prior)
            ),
            prior_log_q=self.log_q(prior),
        )
        if not self.fine_tuned:
            train, held = (
                self.problem.simulate(1000, torch.Generator().manual_seed(s), "low", torch.float64)[
                    1
                ]
                for s in (1, 2)
            )
            found["ood_p_value"] = novelty_p_values(self.y[:1], train, held)[0]
        if with_reference and self.exact is not None:
            truth = self.exact.sample(DRAWS, torch.Generator().manual_seed(7))
            found |= against_reference(
                self.x, truth, log_q, self.log_q(truth), mean=self.exact.mean, std=self.exact.std
            )
        return found

    def judgement(self, with_reference: bool = False) -> Judgement:
        linear = self.problem.high_fidelity.linear
        return judge(
            self.metrics(with_reference),
            RULES,
            unknowns=self.x[0].numel(),
            fine_tuned=self.fine_tuned,
            linear=linear,
        )


def observed(problem, seed: int, scale: float = 1.0) -> torch.Tensor:
    x, y = problem.simulate(1, torch.Generator().manual_seed(seed), "high", torch.float64)
    return y if scale == 1 else problem.high_fidelity(scale * x) + (y - problem.high_fidelity(x))


def affine(name: str, problem, seed: int, std: float = 1.0, shift: float = 0.0) -> Case:
    """The exact posterior, widened by `std` and shifted by `shift` standard deviations in every
    unknown.
    """
    y = observed(problem, seed)
    exact = problem.exact_posterior(y)
    x = exact.sample(DRAWS, torch.Generator().manual_seed(seed))
    centre, move = exact.mean, shift * exact.std
    size = exact.mean.numel()

    def log_q(points):
        return exact.log_density((points - centre - move) / std + centre) - size * math.log(std)

    return Case(name, problem, y, centre + std * (x - centre) + move, log_q, exact=exact)


def computed_with(
    name: str,
    problem,
    other,
    seed: int,
    fidelity: str = "high",
    scale: float = 1.0,
    fine_tuned: bool = True,
) -> Case:
    """q is the exact posterior of another problem: another noise level, or the low-fidelity
    operator.
    """
    y = observed(problem, seed, scale)
    q = other.exact_posterior(y, fidelity)
    return Case(
        name,
        problem,
        y,
        q.sample(DRAWS, torch.Generator().manual_seed(seed)),
        q.log_density,
        fine_tuned,
        problem.exact_posterior(y),
    )


def noisier_than_assumed(name: str, problem, true_problem, seed: int) -> Case:
    """The data have another noise than `problem` assumes; q is exact under the assumption, so only
    the misfit can tell.
    """
    y = observed(true_problem, seed)
    exact = problem.exact_posterior(y)
    return Case(
        name,
        problem,
        y,
        exact.sample(DRAWS, torch.Generator().manual_seed(seed)),
        exact.log_density,
    )


class TwoModes(Gaussian):
    """y = |x| element by element: the posterior has a mode for every choice of signs, here of one
    unknown.
    """

    def __init__(self, **settings):
        super().__init__(side=1, **settings)
        self.high_fidelity = self.low_fidelity = _Absolute((1,), (1,))

    def exact_posterior(self, y, fidelity="high"):
        return None


class _Absolute(Operator):
    def forward(self, x):
        return x.abs()


def lost_mode(name: str, noise_std: float, both: bool, y: float = 1.5) -> Case:
    """q is the positive mode alone, or both."""
    problem = TwoModes(noise_std=noise_std)
    prior_variance = 1.01
    variance = 1 / (1 / prior_variance + 1 / noise_std**2)
    mean, std = variance * y / noise_std**2, variance**0.5
    generator = torch.Generator().manual_seed(3)
    x = mean + std * torch.randn(DRAWS, 1, generator=generator, dtype=torch.float64)
    if both:
        x = x * (2 * torch.randint(2, (DRAWS, 1), generator=generator) - 1)

    def log_q(points):
        sides = [
            -0.5 * ((points[:, 0] - side * mean) / std) ** 2
            - math.log(std)
            - 0.5 * math.log(2 * math.pi)
            for side in (1, -1)
        ]
        return torch.logaddexp(*sides) - math.log(2) if both else sides[0]

    return Case(name, problem, torch.tensor([[y]], dtype=torch.float64), x, log_q)


def problems() -> dict[str, Any]:
    return {
        "banana": Rosenbrock(),
        "field4": Gaussian(side=2),
        "field16": Gaussian(side=4),
        "field64": Gaussian(side=8),
    }


def broken() -> list[Case]:
    all_of_them = problems()
    cases = []
    for name, problem in all_of_them.items():
        cases.append(affine(f"{name}: half the standard deviation", problem, 1, std=0.5))
        cases.append(affine(f"{name}: shifted mean", problem, 2, shift=1.0))
        kind, settings = (
            (Rosenbrock, {})
            if name == "banana"
            else (Gaussian, {"side": math.isqrt(problem.model_shape[0])})
        )
        cases.append(
            computed_with(
                f"{name}: computed with a third of the noise",
                problem,
                kind(noise_std=0.4 / 3, **settings),
                3,
            )
        )
        cases.append(
            computed_with(
                f"{name}: amortised, observation out of distribution",
                problem,
                problem,
                4,
                "low",
                5.0,
                fine_tuned=False,
            )
        )
    for side in (4, 8):
        cases.append(
            noisier_than_assumed(
                f"field{side**2}: noise larger than assumed",
                Gaussian(side=side),
                Gaussian(side=side, noise_std=1.0),
                5,
            )
        )
    cases.append(lost_mode("lost mode, sharp", 0.2, both=False))
    cases.append(lost_mode("lost mode, blunt", 0.4, both=False))
    return cases


def sound() -> list[Case]:
    cases = []
    for name, problem in problems().items():
        cases.append(affine(f"{name}: exact", problem, 11))
        cases.append(affine(f"{name}: exact, another observation", problem, 12))
        cases.append(affine(f"{name}: nearly exact", problem, 13, std=1.02, shift=0.03))
        cases.append(
            affine(f"{name}: nearly exact, another observation", problem, 14, std=1.03, shift=-0.02)
        )
    cases.append(
        computed_with(
            "field16: amortised at an ordinary observation",
            *[_same_operators()] * 2,
            15,
            "low",
            fine_tuned=False,
        )
    )
    cases.append(
        computed_with(
            "field16: amortised, another observation",
            *[_same_operators()] * 2,
            16,
            "low",
            fine_tuned=False,
        )
    )
    cases.append(lost_mode("both modes, sharp", 0.2, both=True))
    cases.append(lost_mode("both modes, blunt", 0.4, both=True))
    return cases


def _same_operators() -> Gaussian:
    problem = Gaussian(side=4)
    problem.high_fidelity = problem.low_fidelity
    return problem
