"""Run one stage under a lock, clean up temporary files of killed runs, and do not retry permanent
errors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pflow.errors import PassingError, PflowError
from pflow.execution.lock import JobLock
from pflow.storage.atomic import replacing
from pflow.storage.layout import CHECKPOINTS, FLOW_FILES, whole

__all__ = ["job"]


@contextmanager
def job(out: Path, checkpoint: Path | None, identity: str, attempt: int = 1) -> Iterator[JobLock]:
    """Hold the lock of a job; record a permanent error, so that it is not retried.

    Arguments:
        out: what the stage writes: a file, a folder, or the root file of a store.
        checkpoint: the file with the state of an interrupted run, for stages that keep one.
        identity: fingerprint of settings, code and inputs.
        attempt: 1, and one more for each automatic retry.

    Raises:
        PflowError: this is a retry after a permanent error.
    """
    anchor = checkpoint or whole(out)
    failure = anchor.with_name(f".{anchor.name}.failed")
    if attempt > 1:
        _refuse_to_repeat(failure, identity)
    try:
        with JobLock(anchor.with_name(f".{anchor.name}.lock")) as lock:
            _sweep(whole(out), checkpoint)
            failure.unlink(missing_ok=True)
            yield lock
    except PassingError:
        raise
    except PflowError as error:
        _record(failure, {"identity": identity, "message": str(error)})
        raise
    finally:
        if checkpoint is not None:
            _remove_empty(checkpoint.parent)


def _record(failure: Path, content: dict[str, str]) -> None:
    """Without it a retry fails in the same way, so a disk that is full by now is no matter."""
    with suppress(PassingError), replacing(failure) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _refuse_to_repeat(failure: Path, identity: str) -> None:
    try:
        earlier = json.loads(failure.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(earlier, dict) and earlier.get("identity") == identity:
        raise PflowError(
            f"{earlier['message']} (the attempt before failed so, and another one would: not tried"
            " again)"
        )


def _sweep(output: Path, checkpoint: Path | None) -> None:
    """Remove temporary files of killed runs of this job, where a link leads too."""
    output = output.resolve()
    patterns = [(output.parent, f".{output.stem}.*.partial")] + [
        (output, f".{name}.*.partial") for name in FLOW_FILES
    ]
    if checkpoint is not None:
        patterns.append((checkpoint.parent, ".*.partial"))
    for folder, pattern in patterns:
        for litter in folder.glob(pattern) if folder.is_dir() else ():
            shutil.rmtree(litter, ignore_errors=True)


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a checkpoint and its parents, as far as they are empty."""
    while CHECKPOINTS in folder.parts:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
