"""reference: reference draws of the posterior, exact where the problem provides them, otherwise by
NUTS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.config.jobs import ReferenceJobSettings, with_workers
from pflow.config.trust import ReferenceSettings
from pflow.diagnostics.images import wiener_estimate
from pflow.errors import PflowError
from pflow.execution.device import select_device
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.inference.nuts import convergence, run_nuts
from pflow.inference.target import Target
from pflow.operators.romberg import RombergOperator
from pflow.problems.base import Problem
from pflow.problems.prior_override import PriorOverride
from pflow.provenance.record import identity
from pflow.stages.io.gaussian_prior import with_gaussian_prior
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.storage.arviz_schema import chains_dataset, draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree
from pflow.storage.kept_points import KeptPoints

__all__ = ["reference", "require_convergence"]


def reference(
    settings: ReferenceJobSettings,
    record: dict[str, Any],
    *,
    observation: Path,
    out: Path,
    points: Path,
    prior: Path | None = None,
    threads: int = 1,
) -> None:
    """Write draws (group `posterior`) and their log density; where exact, also the low-fidelity
    posterior beside them. NUTS runs as many chains at the same time as there are threads, and keeps
    its evaluations in the file `points` until it has ended, so that a killed run continues.

    Raises:
        PflowError: no exact posterior is known, or NUTS did not converge.
    """
    nuts = settings.reference.kind == "nuts"
    # Chains that run in processes of their own need no further ones for the operator.
    chosen = with_workers(settings.problem, 1) if nuts and threads > 1 else settings.problem
    select_device("cpu", 1 if nuts else threads)
    problem = problem_from(chosen)
    y = read_observation(observation, problem)
    if settings.reference.kind == "gaussian":
        problem = with_gaussian_prior(problem, prior)
    if nuts:
        kept = KeptPoints(points, identity(record), math.prod(problem.model_shape))
        groups, facts = _nuts(problem, y, settings, threads, kept)
    else:
        make = {"exact": _exact, "gaussian": _gaussian}[settings.reference.kind]
        groups, facts = make(problem, y, settings)
    attributes = {
        "kind": settings.reference.kind,
        "experiment": settings.experiment,
        "observation": settings.observation,
        **facts,
        "settings_hash": record["settings_hash"],
        "code_version": record["code_version"],
    }
    write_datatree(out, groups, attributes)
    if nuts:
        kept.remove()


def _exact(
    problem: Problem, y: torch.Tensor, settings: ReferenceJobSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Independent draws, their normalised log density, and log p(y)."""
    choice, names, units = settings.reference, problem.parameter_names, {"x": problem.model_unit}
    generator = generator_for(choice.seed, "reference", settings.observation)
    exact = problem.exact_posterior(y, fidelity="high")
    if exact is None:
        raise PflowError(
            "`reference.kind` (=exact) needs a problem whose posterior is known, and that of"
            f" {problem.name!r} is not: set experiments.{settings.experiment}.reference.kind to"
            " nuts or none"
        )
    x = exact.sample(choice.draws, generator)
    groups = {
        "posterior": draws_dataset({"x": x.numpy()}, names, units),
        "sample_stats": draws_dataset({"lp": exact.log_density(x).numpy()}),
    }
    low = problem.exact_posterior(y, fidelity="low")
    if low is not None:
        groups["low_fidelity_posterior"] = draws_dataset(
            {"x": low.sample(choice.draws, generator).numpy()}, names, units
        )
    return groups, {"log_evidence": float(exact.log_evidence), "evaluations": 0}


def _gaussian(
    problem: PriorOverride, y: torch.Tensor, settings: ReferenceJobSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draws under a stationary Gaussian prior, and the estimates of the image that follow from its
    spectrum.
    """
    posterior = problem.exact_posterior(y)
    if posterior is None:
        raise PflowError(
            "`reference.kind` (=gaussian) needs a linear operator and independent noise, and those"
            f" of {problem.name!r} are not: set experiments.{settings.experiment}.reference.kind to"
            " none"
        )
    posterior.tell = _telling(
        f"reference {settings.experiment}/{settings.observation}: draws",
        settings.reference.draws + posterior.moment_draws,
    )
    units = {"x": problem.model_unit}
    x = posterior.sample(
        settings.reference.draws,
        generator_for(settings.reference.seed, "reference", settings.observation),
    )
    estimates = {"x_gaussian": posterior.mean.numpy(), "x_gaussian_std": posterior.std.numpy()}
    operator = problem.high_fidelity
    if isinstance(operator, RombergOperator):
        back_projection = y if not operator.measurements else operator.adjoint(y)
        estimates["x_wiener"] = wiener_estimate(
            back_projection[0].numpy(),
            problem.prior.spectrum.numpy(),
            1 / operator.ratio,
            problem.noise_std,
        ).astype("f4")
    groups = {
        "posterior": draws_dataset({"x": x.numpy()}, problem.parameter_names, units),
        "estimates": point_dataset(estimates, units=units),
    }
    if posterior.log_evidence is None:
        return groups, {"evaluations": 0}
    groups["sample_stats"] = draws_dataset({"lp": posterior.log_density(x).numpy()})
    return groups, {"log_evidence": float(posterior.log_evidence), "evaluations": 0}


def _telling(title: str, total: int) -> Callable[[int], None]:
    """What shows the progress of `total` draws, called with the number of each batch."""
    progress, done = Progress(title), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done / total, draws=done)
        if done == total:
            progress.close(f"{total} draws")

    return tell


def _nuts(
    problem: Problem,
    y: torch.Tensor,
    settings: ReferenceJobSettings,
    processes: int,
    kept: KeptPoints,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Chains of NUTS, if they converged; log p~ is not normalised."""
    choice, target = settings.reference, Target(problem, y.double())
    generator = generator_for(choice.seed, "reference", settings.observation)
    start = problem.sample_prior(100, generator, torch.float64).numpy()
    draws = -(-choice.draws // choice.chains)
    progress = Progress(f"reference {settings.experiment}/{settings.observation}: NUTS")

    def tell(steps: int, total: int) -> None:
        progress.update(steps / total, step=steps, evaluations=target.ledger.evaluations)

    chains = run_nuts(
        target,
        draws=draws,
        tune=choice.tune,
        chains=choice.chains,
        seed=choice.seed,
        start=start,
        tell=tell,
        processes=processes,
        kept=kept,
    )
    measured = convergence(chains)
    statistics = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
    if chains.rejected:
        statistics += f", {chains.rejected} points rejected (the first: {chains.first_failure})"
    progress.close(f"{target.ledger.evaluations} evaluations, {statistics}")
    require_convergence(measured, choice, f"experiments.{settings.experiment}.reference")
    units = {"x": problem.model_unit}
    groups = {
        "posterior": chains_dataset(
            {"x": chains.x.astype(np.float32)}, problem.parameter_names, units
        ),
        "sample_stats": chains_dataset({"lp": chains.lp}),
    }
    return groups, {
        "evaluations": target.ledger.evaluations,
        "divergences": chains.divergences,
        "rejected_points": chains.rejected,
        **measured,
    }


def require_convergence(measured: dict[str, float], choice: ReferenceSettings, where: str) -> None:
    """Raise an error if the chains have not converged.

    Raises:
        PflowError: each rule that is broken, with the value and the way out.
    """
    rules = [
        (
            measured["r_hat"] <= choice.largest_r_hat,
            (
                f"R-hat (={measured['r_hat']:.3f}) must be at most `largest_r_hat`"
                f" (={choice.largest_r_hat})"
            ),
        ),
        *(
            (
                measured[name] >= choice.smallest_ess,
                (
                    f"{name} (={measured[name]:.0f}) must be at least `smallest_ess`"
                    f" (={choice.smallest_ess:g})"
                ),
            )
            for name in ("ess_bulk", "ess_tail")
        ),
        (
            measured["divergent_fraction"] <= choice.largest_divergent,
            (
                f"the share of divergent steps (={measured['divergent_fraction']:.2g}) must be at"
                f" most `largest_divergent` (={choice.largest_divergent:g})"
            ),
        ),
    ]
    broken = [rule for held, rule in rules if not held]
    if broken:
        raise PflowError(
            f"NUTS did not converge and is refused as a reference: {'; '.join(broken)}: raise"
            f" {where}.tune and .draws, or set {where}.kind: none"
        )
