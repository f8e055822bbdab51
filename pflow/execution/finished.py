"""A training whose end the controller may not have seen: its result is kept until the controller
has.

The successor of a killed controller takes the outputs of jobs that still run for incomplete, and
submits the jobs a second time; Snakemake deletes their outputs when the second job begins, be the
first one finished by then. A training in a SLURM job therefore leaves second names (hard links) of
its files beside its checkpoint; the same job, by its identity (settings, code and inputs), takes
them back instead of training again. They go when a workflow ends well, or another identity comes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from pflow.provenance.record import file_hash, identity
from pflow.storage.atomic import replacing
from pflow.storage.layout import FLOW_FILES, CheckpointFolder, FlowFolder, Layout

__all__ = ["forget_finished", "keep_finished", "made", "restore_finished"]


def keep_finished(out: Path, checkpoint: Path) -> None:
    """Remember the result in `out`, in a SLURM job; elsewhere a controller takes its jobs along
    when it goes.
    """
    if "SLURM_JOB_ID" in os.environ:
        with replacing(CheckpointFolder(checkpoint.parent).finished) as temporary:
            _copy(out, temporary)


def restore_finished(out: Path, checkpoint: Path, wanted: str) -> bool:
    """Put a remembered result of the identity `wanted` into `out`; one of another identity, or a
    damaged one, is forgotten.
    """
    kept = CheckpointFolder(checkpoint.parent).finished
    if not kept.is_dir():
        return False
    if not made(kept, wanted):
        shutil.rmtree(kept)
        return False
    if not made(out, wanted):
        _copy(kept, out)
    return True


def forget_finished(results: Path) -> None:
    """Forget all that is remembered: the controller has seen every end."""
    for kept in Layout(results).finished():
        shutil.rmtree(kept, ignore_errors=True)
        for folder in kept.parents:
            try:
                folder.rmdir()  # only empty folders go
            except OSError:
                break


def made(folder: Path, wanted: str) -> bool:
    """Whether `folder` holds the unchanged weights of a training with the identity `wanted`."""
    flow = FlowFolder(folder)
    try:
        record = json.loads(flow.about.read_text(encoding="utf-8"))
        return identity(record) == wanted and file_hash(flow.weights) == record["weights_hash"]
    except (OSError, ValueError, KeyError):
        return False


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in FLOW_FILES:
        with replacing(target / name) as temporary:
            try:
                os.link(source / name, temporary)
            except OSError:  # a file system without hard links
                shutil.copy2(source / name, temporary)
