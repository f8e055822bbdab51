"""Long runs of NUTS as references of the problems without an exact posterior, kept as small files.

    python benchmarks/references.py poisson      (half an hour of one core)
    python benchmarks/references.py darcy        (a quarter)
    python benchmarks/references.py darcy --chain 2      (that chain alone: several at a time)
    python benchmarks/references.py traveltime --store reference.zarr
                     (results/traveltime/posteriors/y1 of a run of the default configuration)
    python benchmarks/references.py darcy --existing     (the summary of the chains made so far)

Each chain that has ended lies in benchmarks/references/.<problem>/, so that the command can be
stopped and given again. When all have, their moments, diagnostics and cost go into
benchmarks/references/<problem>.npz:

    y                  the observation, (data,)
    mean, std          of each unknown, (D,)
    half_mean, half_std   of the first and the second half of the chains, (2, D): how far two such
                       references differ
    r_hat, ess_bulk, ess_tail   the worst over all unknowns; ess, of each unknown, (D,)
    chains, divergences, draws, evaluations   of all chains together, adaptation and coordinates
                       included
    seconds            of all chains, where they were made here
    settings           of the problem, as JSON
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from arviz_stats.base import array_stats
from torch import Tensor

from pflow.execution.seeds import generator_for
from pflow.inference.nuts import Chains, convergence, run_nuts
from pflow.inference.target import Evaluation, Target
from pflow.problems import Problem, build_problem

HERE = Path(__file__).parent
FOLDER = HERE / "references"


@dataclass(frozen=True)
class Run:
    """A problem with its observation, and how long its chains are.

    Attributes:
        problem, settings: its name and what differs from its defaults.
        data: a file with the observation `y`; without one it is simulated.
        draws, tune, chains: of NUTS.
        start: chains begin at this multiple of a draw of the prior, which keeps them from where
            float64 ends.
        fast: whether `DiffusionTarget` knows the problem.
    """

    problem: str
    settings: dict[str, float] = field(default_factory=dict)
    data: Path | None = None
    draws: int = 1000
    tune: int = 500
    chains: int = 4
    start: float = 0.1
    fast: bool = True


RUNS = {
    "poisson": Run(
        "poisson", data=HERE.parent / "config" / "poisson_data.npz", draws=2500, chains=8
    ),
    "darcy": Run("darcy", draws=2000, chains=5, tune=300),
    "traveltime": Run(
        "traveltime",
        {"side": 16, "sources": 8, "receivers": 16, "std": 0.2, "length_m": 10, "noise_std": 1},
        draws=600,
        tune=250,
        start=1.0,
        fast=False,
    ),
}


@lru_cache(maxsize=1)
def _prior_precision(problem: Problem) -> Tensor:
    """Not kept by the target, of which the sampler makes a copy for each evaluation."""
    root = problem.prior.root
    return torch.linalg.inv(root @ root.T)


class DiffusionTarget(Target):
    """The posterior of a diffusion with a normal prior and independent noise, in half the time: its
    formula instead of autograd, and no store.
    """

    def evaluate(self, x: Tensor, round_number: int = 0) -> Evaluation:
        problem, operator = self.problem, self.problem.high_fidelity
        self.ledger.points += len(x)
        if not bool(operator.valid(x).all()):
            nan = torch.full((len(x),), torch.nan, dtype=torch.float64)
            nothing = torch.full_like(self.y, torch.nan).expand(len(x), -1)
            return Evaluation(x, nan, nan, torch.full_like(x, torch.nan), nan == 0, nothing)
        k, factors, u = operator.state(x)
        prediction = operator.points.values(u)
        residual = (self.y - prediction) / problem.noise_std
        away = x - problem.prior.mean
        pulled = away @ _prior_precision(problem)
        score = operator.gradient(k, factors, u, residual / problem.noise_std) - pulled
        log_likelihood = -0.5 * residual.square().sum(1)  # without constants
        log_prior = -0.5 * (away * pulled).sum(1)
        finite = score.isfinite().all(1)
        return Evaluation(x, log_likelihood, log_prior, score, finite, prediction)


def observation(run: Run, problem: Problem) -> Tensor:
    """y, (1, *data), in float64."""
    if run.data is not None:
        return torch.from_numpy(np.load(run.data)["y"])[None]
    generator = generator_for(1, "observation")
    x_true = problem.sample_truth(1, generator)
    return problem.noise.add_to(
        problem.high_fidelity(x_true), generator, drawn_in=torch.float32
    ).double()


def path_of(name: str, number: int) -> Path:
    """Where a chain is kept."""
    return FOLDER / f".{name}" / f"{RUNS[name].tune}-{RUNS[name].draws}-{number}.npz"


def chain(name: str, number: int) -> dict[str, np.ndarray]:
    """One chain, read where it has been made."""
    run, path = RUNS[name], path_of(name, number)
    if not path.exists():
        problem = build_problem(run.problem, **run.settings)
        target = (DiffusionTarget if run.fast else Target)(problem, observation(run, problem))
        generator = generator_for(number, "start")
        start = run.start * problem.sample_prior(100, generator, torch.float64).numpy()
        began = time.perf_counter()
        found = run_nuts(
            target, draws=run.draws, tune=run.tune, chains=1, seed=number, start=start,
            tell=lambda step, total: step % 500 or print(name, number, step, total, flush=True),
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            x=found.x[0],
            divergences=found.divergences,
            evaluations=target.ledger.points,
            seconds=time.perf_counter() - began,
        )
        part.replace(path)
    return dict(np.load(path))


def collect(name: str, numbers: list[int]) -> dict[str, np.ndarray]:
    """These chains as the arrays of the module's docstring."""
    parts = [chain(name, number) for number in numbers]
    total = {
        key: sum(part[key] for part in parts) for key in ("divergences", "evaluations", "seconds")
    }
    return summary(name, np.stack([part["x"] for part in parts]), total)


def stored(name: str, store: Path) -> dict[str, np.ndarray]:
    """The chains of a pipeline's reference with the same problem and observation, `store`."""
    tree = xr.open_datatree(store, engine="zarr", consolidated=False)
    x = tree["posterior"]["x"].values
    total = {key: tree.attrs[key] for key in ("divergences", "evaluations")}
    return summary(name, x.reshape(*x.shape[:2], -1).astype(float), total)


def summary(name: str, x: np.ndarray, total: dict[str, float]) -> dict[str, np.ndarray]:
    """Moments and diagnostics of chains x, (chains, draws, D), with their cost `total`."""
    run = RUNS[name]
    judged = convergence(Chains(x, x[..., 0], int(total["divergences"]), x[..., 0]))
    half = x.shape[1] // 2
    halves = [x[:, :half].reshape(-1, x.shape[-1]), x[:, half:].reshape(-1, x.shape[-1])]
    problem = build_problem(run.problem, **run.settings)
    return {
        "y": observation(run, problem)[0].numpy(),
        "mean": x.mean((0, 1)),
        "std": x.std((0, 1)),
        "half_mean": np.stack([part.mean(0) for part in halves]),
        "half_std": np.stack([part.std(0) for part in halves]),
        "ess": np.array([array_stats.ess(u, method="bulk") for u in np.moveaxis(x, -1, 0)]),
        **{key: judged[key] for key in ("r_hat", "ess_bulk", "ess_tail")},
        **total,
        "chains": x.shape[0],
        "draws": x.shape[0] * x.shape[1],
        "settings": json.dumps({"name": run.problem, **run.settings}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=sorted(RUNS))
    parser.add_argument("--chain", type=int, help="make this chain alone, without the summary")
    parser.add_argument("--existing", action="store_true", help="no new chains")
    parser.add_argument("--store", type=Path, help="reference.zarr of a pipeline's run instead")
    asked = parser.parse_args()
    name = asked.problem
    torch.set_num_threads(1)
    if asked.chain is not None:
        chain(name, asked.chain)
        return
    numbers = [
        number
        for number in range(RUNS[name].chains)
        if not asked.existing or path_of(name, number).exists()
    ]
    found = stored(name, asked.store) if asked.store else collect(name, numbers)
    np.savez(FOLDER / f"{name}.npz", **found)
    print({key: value for key, value in found.items() if np.ndim(value) == 0})


if __name__ == "__main__":
    main()
