"""Pairs of an epidemic at two fidelities, made as somebody else would hand them over: files alone.

    python config/epidemic.py       # writes epidemic/low.npz, high.npz and observed.npz

x are the logarithms of the rates of infection and of recovery, a day. y are log(1 + reported cases)
on every sixth of sixty days. Low fidelity is the deterministic model with independent noise; high
fidelity draws every infection, recovery and report, so that its likelihood is not known.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

PEOPLE, FIRST, DAYS, EVERY, REPORTED = 1000, 10, 60, 6, 0.5
MEAN, STD = np.log([0.4, 0.15]), np.array([0.3, 0.25])  # of the prior of x
TRUTH = np.log([0.5, 0.12])


def deterministic(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cases from the mean of each day's change, with noise of 0.2."""
    infected = np.full(len(x), float(FIRST))
    susceptible = PEOPLE - infected
    rate, recovery = np.exp(x).T
    seen = []
    for day in range(1, DAYS + 1):
        new = susceptible * (1 - np.exp(-rate * infected / PEOPLE))
        susceptible, infected = susceptible - new, infected * np.exp(-recovery) + new
        if day % EVERY == 0:
            seen.append(np.log1p(REPORTED * infected))
    return np.stack(seen, 1) + 0.2 * random.normal(size=(len(x), len(seen)))


def stochastic(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cases with every event drawn."""
    infected = np.full(len(x), FIRST)
    susceptible = PEOPLE - infected
    rate, recovery = np.exp(x).T
    seen = []
    for day in range(1, DAYS + 1):
        new = random.binomial(susceptible, 1 - np.exp(-rate * infected / PEOPLE))
        cured = random.binomial(infected, 1 - np.exp(-recovery))
        susceptible, infected = susceptible - new, infected + new - cured
        if day % EVERY == 0:
            seen.append(np.log1p(random.binomial(infected, REPORTED)))
    return np.stack(seen, 1)


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--low", type=int, default=10000, help="pairs of low fidelity")
    parser.add_argument("--high", type=int, default=400, help="pairs of high fidelity")
    arguments = parser.parse_args()
    folder = Path("epidemic")
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    simulators = (("low", arguments.low, deterministic), ("high", arguments.high, stochastic))
    for name, count, simulate in simulators:
        x = MEAN + STD * random.normal(size=(count, 2))
        np.savez(folder / f"{name}.npz", x=x, y=simulate(x, random))
    np.savez(folder / "observed.npz", y=stochastic(TRUTH[None], random)[0])


if __name__ == "__main__":
    main()
