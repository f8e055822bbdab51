"""sample: draws of one posterior, each with its density, its importance weight and its prediction.

The store also holds the evidence that needs the operator: the misfit of the draws, the difference
of the scores of flow and posterior, and the posterior density at draws of the prior, which can
detect mass that the flow misses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pflow.config.jobs import SampleJobSettings
from pflow.config.problems import has_operator
from pflow.execution.device import describe_device, select_device
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.objectives.latent_correction import latent_scores
from pflow.problems.base import Problem
from pflow.stages.io.inputs import problem_from, read_observation
from pflow.stages.io.pairs_only_draws import sample_without_operator
from pflow.stages.io.predicted_groups import (
    log_likelihood_group,
    log_likelihoods,
    prior_predictive_group,
)
from pflow.stages.io.priors import with_prior
from pflow.stages.io.weights import load_flow
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree
from pflow.storage.layout import FlowFolder
from pflow.storage.store import read_arrays
from pflow.storage.text_files import read_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["latent_score_error", "sample"]

BATCH = 4096
ELEMENTS = 2**22  # of x in one batch
ON_FIGURES = (
    "field_shape",
    "field_extent",
    "field_label",
    "field_unit",
    "field_colours",
    "data_axes",
)  # attributes of a problem, for the store
PRIOR_ELEMENTS = 2**19  # of draws of the prior that are kept for the figures
GRADIENT_BATCH = 64  # draws whose gradients are in memory at once


@torch.no_grad()
def sample(
    settings: SampleJobSettings,
    record: dict[str, Any],
    *,
    flow: Path,
    observation: Path,
    out: Path,
    prior: Path | None = None,
    threads: int = 1,
) -> None:
    """Write posterior.zarr; docs/store.md lists its groups."""
    device = select_device(settings.device, threads)
    problem = problem_from(settings.problem)
    y = read_observation(observation, problem).to(device)
    network, _ = load_flow(flow, device)
    if not has_operator(settings.problem):
        return sample_without_operator(
            settings, record, problem, network, y, read_json(FlowFolder(flow.parent).about), out
        )
    posterior_problem = with_prior(problem, settings.prior, prior, y)
    target = Target(posterior_problem, y)
    name = f"{settings.experiment}/{settings.observation}/{settings.method}/seed-{settings.seed}"
    progress = Progress(f"sample {name}")
    fixed = read_arrays(observation, ("y",), optional=("x_true",))[0]
    generator = generator_for(settings.seed, "sample", settings.observation, settings.method)
    arrays = _draws(network, target, settings.sample.draws, generator, progress)
    groups = _groups_of_draws(target, arrays, fixed)
    if settings.sample.score_draws and posterior_problem.high_fidelity.differentiable:
        x = torch.from_numpy(arrays["x"][: settings.sample.score_draws]).to(device)
        groups["score_stats"] = draws_dataset({"score_error": _score_errors(network, target, x)})
    random = generator_for(settings.seed, "prior", settings.observation)
    of_prior = []
    if settings.sample.prior_draws:
        of_prior.append(posterior_problem.sample_prior(settings.sample.prior_draws, random))
        statistics, predictions = _at_draws(network, target, of_prior[0])
        groups["sample_stats_prior"] = draws_dataset(statistics)
        noise = generator_for(settings.seed, "prior predictive", settings.observation)
        groups["prior_predictive"] = prior_predictive_group(posterior_problem, predictions, noise)
    more = _prior_draws_shown(posterior_problem) - settings.sample.prior_draws
    if more > 0:
        of_prior.append(posterior_problem.sample_prior(more, random))
    groups["prior"] = _dataset(
        draws_dataset, posterior_problem, "x", torch.cat(of_prior).cpu().numpy()
    )
    attributes = {
        **_figure_attributes(problem),
        "experiment": settings.experiment,
        "observation": settings.observation,
        "method": settings.method,
        "seed": settings.seed,
        "noise_std": posterior_problem.noise_std,
        "data_size": posterior_problem.noise.size,
        "linear_operator": int(posterior_problem.high_fidelity.linear),
        "evaluations": read_json(FlowFolder(flow.parent).about, "evaluations")["evaluations"],
        "sampling_evaluations": target.ledger.evaluations,
        "sampling_forwards": target.ledger.forwards,
        "device": describe_device(device),
        "settings_hash": record["settings_hash"],
        "code_version": record["code_version"],
    }
    write_datatree(out, groups, attributes)
    progress.close(
        f"{settings.sample.draws} draws, {target.ledger.forwards} forwards and"
        f" {target.ledger.evaluations} evaluations"
    )


def _figure_attributes(problem: Problem) -> dict[str, Any]:
    """Attributes for the store that say how figures show model and data of a problem."""
    shown = {name: getattr(problem, name) for name in ON_FIGURES if hasattr(problem, name)}
    if problem.high_fidelity.sources > 1 and len(problem.data_shape) == 2:
        shown.setdefault("data_axes", ("receiver", "source"))  # of its columns and its rows
    return shown


def _prior_draws_shown(problem: Problem) -> int:
    """How many draws of the prior the figures compare with: fewer of large models, whose standard
    deviations are all that is shown.
    """
    return max(50, min(1000, PRIOR_ELEMENTS // math.prod(problem.model_shape)))


def _dataset(
    make: Callable[..., xr.Dataset], problem: Problem, name: str, x: np.ndarray
) -> xr.Dataset:
    """Models as variables of a store, beside the physical parameters that they stand for; then x
    are coordinates, which have no unit.

    Arguments:
        make: `draws_dataset` or `point_dataset`.
        problem: whose models they are.
        name: of x; that of the physical parameters ends in the same way.
        x: with the axes that `make` wants.
    """
    batch = torch.from_numpy(x).reshape(-1, *problem.model_shape)
    physical = problem.physical(batch)
    if physical is batch:
        return make({name: x}, problem.parameter_names, {"x": problem.model_unit})
    values = physical.numpy() if x.ndim == batch.ndim else physical[0].numpy()
    return make(
        {name: x, name.replace("x", "physical", 1): values},
        problem.parameter_names,
        {"physical": problem.model_unit},
    )


def _groups_of_draws(
    target: Target, arrays: dict[str, np.ndarray], fixed: dict[str, np.ndarray]
) -> dict[str, xr.Dataset]:
    """Draws, their densities and predictions, beside the observation and the true model.

    Arguments:
        target: p~.
        arrays: of `_draws`.
        fixed: y, and x_true where it is known.
    """
    problem, units = target.problem, {"y": target.problem.data_unit}
    stats = {
        "lp": arrays["lp"],
        "log_q": arrays["log_q"],
        "log_weight": arrays["lp"] - arrays["log_q"],
        "chi_square": arrays["chi_square"],
    }
    groups = {
        "posterior": _dataset(draws_dataset, problem, "x", arrays["x"]),
        "sample_stats": draws_dataset(stats),
        "log_likelihood": log_likelihood_group(arrays["log_likelihood"]),
        "posterior_predictive": draws_dataset({"y": arrays["y"]}, units=units),
        "observed_data": point_dataset({"y": fixed["y"]}, units=units),
    }
    if target.summary is not target.y:
        summary = point_dataset({"summary": target.summary[0].cpu().numpy()})["summary"]
        groups["observed_data"]["summary"] = summary
    if "x_true" in fixed:
        groups["constant_data"] = _dataset(point_dataset, problem, "x_true", fixed["x_true"])
    return groups


def _score_errors(network: Flow, target: Target, x: torch.Tensor) -> np.ndarray:
    """`latent_score_error` in batches whose gradients fit into memory."""
    batch = max(1, min(GRADIENT_BATCH, ELEMENTS // 16 // math.prod(network.model_shape)))
    return np.concatenate([latent_score_error(network, target, part) for part in x.split(batch)])


def _draws(
    network: Flow, target: Target, draws: int, generator: torch.Generator, progress: Progress
) -> dict[str, np.ndarray]:
    """x ~ q with log q, log p~, log-likelihoods, misfit per datum and a prediction F(x) + noise."""
    problem = target.problem
    parts: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
    batch = max(1, min(BATCH, ELEMENTS // math.prod(problem.model_shape)))
    for first in range(0, draws, batch):
        x, log_q = network.sample_with_log_prob(
            target.summary, min(batch, draws - first), generator
        )
        prediction, log_density = target.predict(x)
        recorded = problem.noise.add_to(prediction.cpu(), generator, drawn_in=torch.float32)
        chi_square = problem.noise.chi_square(target.y - prediction)
        values = {
            "x": x,
            "y": recorded,
            "lp": log_density,
            "log_q": log_q,
            "chi_square": chi_square,
            "log_likelihood": log_likelihoods(target, prediction, draws),
        }
        for name, value in values.items():
            parts[name].append(value.cpu())
        progress.update(min(1.0, (first + batch) / draws), forwards=target.ledger.forwards)
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def latent_score_error(network: Flow, target: Target, x: torch.Tensor) -> np.ndarray:
    r"""The difference of the scores of q and of the posterior at draws of q, in the metric of the
    flow, per parameter.

    .. math::
        \frac{1}{d} \| J^\top (\nabla \log q(x) - \nabla \log \tilde p(x)) \|^2, \qquad J =
        dT^{-1}/dz, \quad z = T(x)

    which has no unit and does not depend on the parametrisation of x: it compares the posterior,
    seen in z, with N(0, I). It is 0 for the posterior itself; a Gaussian whose standard deviation
    is s times too large has (s^2 - 1)^2. Since log q(x(z)) = log N(z) - log |det J|, one gradient
    through the inverse is enough. Costs one evaluation a draw.
    """
    z, score = latent_scores(network, target.summary, x, target.evaluate(x).score)
    return ((score + z).flatten(1).square().sum(1) / math.prod(network.model_shape)).cpu().numpy()


def _at_draws(
    network: Flow, target: Target, draws: torch.Tensor
) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """log p(y given x) and log q(x) at draws of the prior, and F(x)."""
    x = draws.to(target.y)
    log_likelihood, log_q, predictions = [], [], []
    for part in x.split(max(1, min(BATCH, ELEMENTS // math.prod(target.problem.model_shape)))):
        prediction, _ = target.predict(part)
        log_likelihood.append(target.problem.log_likelihood(target.y, prediction))
        log_q.append(network.log_prob(part, target.summary))
        predictions.append(prediction.cpu())
    statistics = {
        "log_likelihood": torch.cat(log_likelihood).cpu().numpy(),
        "log_q": torch.cat(log_q).cpu().numpy(),
    }
    return statistics, torch.cat(predictions)
