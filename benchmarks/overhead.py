"""What pflow adds to a user's operator: process time of `Target.evaluate` against the bare operator
with its gradient.

    python benchmarks/overhead.py [--milliseconds 10] [--batches 1 8 64] [--size 1024] [--repeats
    200]

The operator computes for the given time a model (small matrix products, like a solver's) and has a
gradient of its own. The calls alternate, so that whatever disturbs the machine disturbs all of
them; times are of this process alone, and added ones are differences of medians. What a call adds
is paid once, whatever the batch: prior and likelihood with their gradients, which a score written
by hand in torch (`by hand`) needs as well, and then what is ours: the ledger and the store of
evaluations.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from pflow.inference.target import Target
from pflow.operators import IdentityOperator
from pflow.operators.base import Operator
from pflow.problems import PriorProblem
from pflow.problems.priors import CallablePrior


class Busy(Operator):
    """F(x) = x^3, after so many seconds of work a model, half of it in the gradient."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__((size,), (size,))
        self.matrix = torch.randn(64, 64)
        self.rounds = self._calibrate(seconds / 2)

    def _calibrate(self, seconds: float) -> int:
        began, rounds = time.process_time(), 0
        while time.process_time() - began < 0.5:
            self._work(100)
            rounds += 100
        return max(1, round(rounds * seconds / (time.process_time() - began)))

    def _work(self, rounds: int) -> None:
        for _ in range(rounds):
            self.matrix @ self.matrix

    def forward(self, x):
        self._work(self.rounds * len(x))
        return x**3

    def vjp(self, x, v):
        self._work(self.rounds * len(x))
        return 3 * x**2 * v


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--milliseconds", type=float, default=10.0, help="of one evaluation")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--size", type=int, default=1024, help="unknowns, and data")
    parser.add_argument("--repeats", type=int, default=200, help="evaluations of each kind, in all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    operator = Busy(options.size, options.milliseconds / 1000)
    prior = CallablePrior(
        (options.size,),
        lambda x: -0.5 * x.square().sum(1),
        lambda n, generator: torch.randn(n, options.size, generator=generator),
    )
    problem = PriorProblem(prior, IdentityOperator((options.size,)), operator, noise_std=1.0)
    target = Target(problem, torch.zeros(1, options.size))

    def bare(x: torch.Tensor) -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(operator(leaf).sum(), leaf)

    def by_hand(x: torch.Tensor) -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(
            (problem.log_likelihood(target.y, operator(leaf)) + problem.log_prior(leaf)).sum(), leaf
        )

    calls = {"bare": bare, "by hand": by_hand, "target": target.evaluate}
    print(
        "| batch | bare operator, ms an evaluation | through Target | added by hand, ms a call |"
        " added by Target | overhead on the operator | on the score by hand |"
    )
    print("|---|---|---|---|---|---|---|")
    for batch in options.batches:
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(max(5, options.repeats // batch)):
            for name, call in calls.items():
                x = torch.randn(batch, options.size)
                began = time.process_time()
                call(x)
                times[name].append((time.process_time() - began) / batch * 1000)
        median = {name: statistics.median(values) for name, values in times.items()}
        needed, added = (batch * (median[name] - median["bare"]) for name in ("by hand", "target"))
        overheads = [
            f"{100 * (median['target'] / median[name] - 1):.2f} %" for name in ("bare", "by hand")
        ]
        print(
            f"| {batch} | {median['bare']:.3f} | {median['target']:.3f} | {needed:.2f} |"
            f" {added:.2f} | {' | '.join(overheads)} |"
        )


if __name__ == "__main__":
    main()
