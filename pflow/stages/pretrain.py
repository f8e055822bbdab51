"""pretrain: stage 1: an amortised flow from pairs alone, of low fidelity, or few of high fidelity
from the weights of another flow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pflow.config.flows import FlowSettings
from pflow.config.jobs import PretrainJobSettings
from pflow.data.pair_stream import PairStream
from pflow.diagnostics.overfitting import validation_course
from pflow.execution.device import describe_device, select_device
from pflow.execution.parallel import SingleProcess, join_group, worker_count
from pflow.execution.progress import Progress
from pflow.execution.seeds import generator_for
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.objectives.maximum_likelihood import MaximumLikelihood, mean_negative_log_likelihood
from pflow.provenance.record import identity
from pflow.stages.io.outputs import PRETRAIN_COLUMNS, write_flow
from pflow.stages.io.weights import architecture_of, load_flow
from pflow.storage.checkpoint import Checkpoint
from pflow.training import Optimiser, train

__all__ = ["pretrain"]

FIRST = 1024  # pairs that set the normalisations
CHECKED = 4096  # data in one batch


@dataclass
class ValidationMonitor:
    """The validation loss after each epoch; the weights of the best one are kept."""

    pairs: PairStream
    patience: int
    group: SingleProcess
    criterion: str = field(default="validation_loss", init=False)

    def mark(self, objective: MaximumLikelihood) -> int:
        return objective.epoch

    def measure(self, flow: Flow) -> dict[str, float]:
        return {"validation_loss": self.group.mean(mean_negative_log_likelihood(flow, self.pairs))}


@torch.no_grad()
def _check_data(flow: Flow, streams: Iterable[PairStream]) -> None:
    """Let the flow see all data once, where it transforms them, so that what it refuses is said
    before it trains.
    """
    if type(flow).condition is not Flow.condition:
        for pairs in streams:
            for _, y in pairs.in_order(CHECKED):
                flow.condition(y)


class PairDensity(torch.nn.Module):
    """log_prob_pairs as a module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.flow.log_prob_pairs(x, y)


@torch.no_grad()
def _first_flow(
    settings: FlowSettings, start: Path | None, pairs: PairStream, device: torch.device
) -> tuple[Flow, dict[str, Any]]:
    """The flow before its first step, and its architecture: with the weights of `start`, or random
    and normalised by the first pairs.
    """
    x, y = pairs.first(FIRST)
    architecture = architecture_of(settings, x.shape[1:], y.shape[1:])
    if start is not None:
        return load_flow(start, device, architecture)
    torch.manual_seed(settings.pretrain.seed)
    flow = build_flow(**architecture).to(device)
    flow.initialise(x, y)
    return flow, architecture


def pretrain(
    settings: PretrainJobSettings,
    record: dict[str, Any],
    *,
    train_shards: list[Path],
    validation_shards: list[Path],
    start: Path | None = None,
    out: Path,
    checkpoint: Path,
    threads: int = 1,
) -> None:
    """Write flow.safetensors, flow.json and history.csv into the folder `out`."""
    device = select_device(settings.device, max(1, threads // worker_count()))
    group = join_group(device)
    wanted = settings.flow.pretrain
    pairs = PairStream(train_shards, wanted.memory_mb, device)
    held_out = PairStream(validation_shards, wanted.memory_mb, device)
    flow, architecture = _first_flow(settings.flow, start, pairs, device)
    _check_data(flow, (pairs, held_out))
    objective = MaximumLikelihood(
        pairs, wanted.batch, wanted.epochs, (group.rank, group.size), group.wrap(PairDensity(flow))
    )
    optimiser = Optimiser(
        wanted.learning_rate,
        wanted.warmup,
        wanted.schedule,
        wanted.decay,
        decay_steps=objective.steps_per_epoch,
        clip=wanted.clip,
    )
    progress = Progress(f"pretrain {settings.experiment}/{settings.name}")
    store = Checkpoint(checkpoint, identity(record))
    state = train(
        flow,
        objective,
        optimiser,
        generator=generator_for(wanted.seed, "pretrain", settings.name),
        monitor=ValidationMonitor(held_out, wanted.patience, group),
        checkpoint=store,
        progress=progress,
        describe=lambda: {"epoch": objective.epoch},
        processes=group,
    )
    course = validation_course(state.rows)
    facts = {
        "experiment": settings.experiment,
        "flow": settings.name,
        "pairs": settings.flow.pairs,
        "start": settings.flow.start,
        "device": describe_device(device),
        "best_validation_loss": state.best_value,
        "best_epoch": course.best_epoch,
        "epochs": course.epochs,
        "advice": course.advice,
        "processes": group.size,
    }
    if group.rank == 0:
        write_flow(out, flow, architecture, state, PRETRAIN_COLUMNS, facts, record)
        store.remove()
    group.leave()
    if course.advice:
        progress.say(course.advice)
    progress.close(
        f"{state.step} steps in {state.seconds:.1f} s, best validation loss {state.best_value:.4f}"
        f" after epoch {course.best_epoch} of {course.epochs} ({state.stop_reason})"
    )
