"""Output files of training: weights, provenance, history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pflow.flows.base import Flow
from pflow.storage.layout import FlowFolder
from pflow.storage.origins import file_hash
from pflow.storage.text_files import write_csv, write_json
from pflow.storage.weights import write_weights
from pflow.training import TrainingState

__all__ = ["FINETUNE_COLUMNS", "PRETRAIN_COLUMNS", "write_flow"]

PRETRAIN_COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "loss",
    "learning_rate",
    "gradient_norm",
    "skipped",
    "validation_loss",
)
FINETUNE_COLUMNS = (
    "step",
    "evaluations",
    "seconds",
    "loss",
    "objective_nats",
    "learning_rate",
    "gradient_norm",
    "skipped",
    "elbo_nats",
    "kl_reverse_nats",
    "kl_reverse_nats_se",
    "kl_forward_nats",
    "ess_fraction",
    "log_evidence_error_nats",
)


def write_flow(
    folder: Path,
    flow: Flow,
    architecture: dict[str, Any],
    state: TrainingState,
    columns: tuple[str, ...],
    facts: dict[str, Any],
    record: dict[str, Any],
) -> None:
    """history.csv, flow.safetensors (with its architecture), and flow.json, which holds the hash of
    the weights.
    """
    files = FlowFolder(folder)
    write_csv(
        files.history,
        [{k: v for k, v in row.items() if k in columns and v == v} for row in state.rows],
        columns,
    )
    write_weights(files.weights, flow.state_dict(), {"architecture": json.dumps(architecture)})
    about = {
        **facts,
        "wall_seconds": round(state.seconds, 3),
        "steps": state.step,
        "skipped_steps": state.skipped,
        "stop_reason": state.stop_reason,
        "parameters": sum(p.numel() for p in flow.parameters()),
        "architecture": architecture,
        "weights_hash": file_hash(files.weights),
        **record,
    }
    write_json(files.about, about)
