"""pretrain: stage 1, a flow for every y at once, from low-fidelity pairs alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pflow.checkpoint import Checkpoint
from pflow.device import describe_device, select_device
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.objectives.maximum_likelihood import MaximumLikelihood, mean_negative_log_likelihood
from pflow.progress import Progress
from pflow.provenance import identity
from pflow.seeds import generator_for
from pflow.stage_settings import PretrainSettings
from pflow.stages.outputs import PRETRAIN_COLUMNS, write_flow
from pflow.stages.weights import architecture_of
from pflow.store import read_pairs
from pflow.training import Optimiser, train

__all__ = ["pretrain"]


@dataclass
class ValidationMonitor:
    """The validation loss after each epoch; the best one decides which weights are kept."""

    x: torch.Tensor
    y: torch.Tensor
    patience: int
    criterion: str = field(default="validation_loss", init=False)

    def mark(self, objective: MaximumLikelihood) -> int:
        return objective.epoch

    def measure(self, flow: Flow) -> dict[str, float]:
        return {"validation_loss": mean_negative_log_likelihood(flow, self.x, self.y)}


def pretrain(
    settings: PretrainSettings,
    record: dict[str, Any],
    *,
    train_shards: list[Path],
    validation_shards: list[Path],
    out: Path,
    checkpoint: Path,
    threads: int = 1,
) -> None:
    """Write flow.safetensors, flow.json and history.csv into the folder `out`."""
    device = select_device(settings.device, threads)
    wanted = settings.flow.pretrain
    x, y = (torch.from_numpy(a).to(device) for a in read_pairs(train_shards))
    held_x, held_y = (torch.from_numpy(a).to(device) for a in read_pairs(validation_shards))
    architecture = architecture_of(settings.flow, x.shape[1:], y.shape[1:])
    torch.manual_seed(wanted.seed)
    flow = build_flow(**architecture).to(device)
    with torch.no_grad():
        flow.initialise(x[:1024], y[:1024])
    objective = MaximumLikelihood(x, y, wanted.batch, wanted.epochs)
    optimiser = Optimiser(
        wanted.learning_rate, wanted.warmup, wanted.schedule, wanted.decay, decay_steps=objective.steps_per_epoch, clip=wanted.clip
    )
    progress = Progress(f"pretrain {settings.experiment}/{settings.name}")
    store = Checkpoint(checkpoint, identity(record))
    state = train(
        flow,
        objective,
        optimiser,
        generator=generator_for(wanted.seed, "pretrain", settings.name),
        monitor=ValidationMonitor(held_x, held_y, wanted.patience),
        checkpoint=store,
        progress=progress,
        describe=lambda: {"epoch": objective.epoch},
    )
    facts = {"experiment": settings.experiment, "flow": settings.name, "device": describe_device(device), "best_validation_loss": state.best_value}
    write_flow(out, flow, architecture, state, PRETRAIN_COLUMNS, facts, record)
    store.remove()
    progress.close(f"{state.step} steps in {state.seconds:.1f} s, best validation loss {state.best_value:.4f} ({state.stop_reason})")
