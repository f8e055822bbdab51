"""Keeps the result of a finished training until the controller has recorded its end.

When a killed controller is started again, it takes the outputs of running jobs for incomplete and
submits these jobs a second time. Snakemake deletes their outputs when the second job begins, even
if the first job has finished by then. A training in a SLURM job therefore leaves hard links to its
files beside its checkpoint. A job with the same identity (settings, code and inputs) restores them
instead of training again. They are removed when a workflow ends without failure, or when a job with
another identity runs.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from pflow.provenance.record import identity
from pflow.storage.atomic import replacing
from pflow.storage.layout import FLOW_FILES, CheckpointFolder, FlowFolder, Layout
from pflow.storage.origins import file_hash

__all__ = ["forget_finished", "keep_finished", "made", "restore_finished"]


def keep_finished(out: Path, checkpoint: Path) -> None:
    """Keep the result in `out` of a SLURM job; elsewhere jobs end with their controller."""
    if "SLURM_JOB_ID" in os.environ:
        with replacing(CheckpointFolder(checkpoint.parent).finished) as temporary:
            _copy(out, temporary)


def restore_finished(out: Path, checkpoint: Path, wanted: str) -> bool:
    """Restore a kept result of the identity `wanted` into `out`; delete one of another identity, or
    a damaged one.
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
    """Delete all kept results: the controller has recorded the end of every job."""
    for kept in Layout(results).finished():
        shutil.rmtree(kept, ignore_errors=True)
        for folder in kept.parents:
            try:
                folder.rmdir()  # only empty folders are removed
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
