"""Delete everything that was made for an experiment or for a method, the evaluations that are kept
for later runs included.

Results are made again when their settings, code or inputs change. A change that pflow cannot see (a
file that F opens, an installed package) changes none of these; then this is the way to start anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pflow.errors import PflowError
from pflow.execution.lock import running_owner
from pflow.storage.layout import ABOUT, CHECKPOINTS, CheckpointFolder, ExperimentFolder, root_file

__all__ = ["Forgettable", "find", "forget"]

STAGES_OF_RUNS = ("finetune", "sample", "evaluate")


@dataclass(frozen=True)
class Forgettable:
    """What was made for an experiment or a method, and what it cost.

    Attributes:
        paths: files and folders. The checkpoints with the kept evaluations come first: a deletion
            that is interrupted leaves no evaluations without their results.
        trainings: finished trainings.
        seconds: their wall time.
        evaluations: kept evaluations of the operator.
    """

    paths: list[Path]
    trainings: int
    seconds: float
    evaluations: int

    @property
    def cost(self) -> str:
        """The cost of making it again, in words."""
        return (
            f"{self.trainings} trainings ({self.seconds:.0f} s) and {self.evaluations} evaluations"
            " of the operator"
        )


def find(folder: ExperimentFolder, method: str | None = None) -> Forgettable:
    """What was made for an experiment, or for one of its methods.

    Raises:
        PflowError: there is nothing of that name, or one of the experiment's jobs is running.
    """
    results, name = folder.folder.parent, folder.folder.name
    experiments = {path.name for path in results.glob("*") if path.is_dir()} - {"logs"}
    _require(name, experiments, f"an experiment in {results}")
    for lock in sorted(folder.folder.rglob(".*.lock")):
        if owner := running_owner(lock):
            raise PflowError(
                f"a job of `{name}` must not be running, and {owner} holds {lock}: wait for its"
                " end, or stop it; delete that file if there is no such process any more"
            )
    if method is None:
        paths = sorted(folder.folder.iterdir(), key=lambda path: path.name != CHECKPOINTS)
    else:
        runs = _found(folder, folder.run("*", "*", "*").folder)
        runs += _found(folder, folder.run_checkpoint("*", "*", "*").folder)
        _require(method, {run.parent.name for run in runs}, f"a method of `{name}` with results")
        paths = _of_method(folder, method)
    return _measured(paths)


def forget(folder: ExperimentFolder, forgettable: Forgettable) -> None:
    """Delete it.

    Raises:
        PflowError: something cannot be deleted.
    """
    try:
        for path in forgettable.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if not folder.folder.is_symlink() and not any(folder.folder.iterdir()):
            folder.folder.rmdir()
    except OSError as error:
        raise PflowError(
            f"{error.filename} cannot be deleted ({error.strerror}): change its permissions and run"
            " the same command again"
        ) from error


def _require(name: str, names: Iterable[str], what: str) -> None:
    if name not in names or not re.fullmatch(r"[\w-]+", name):
        there = ", ".join(sorted(names)) or "none"
        raise PflowError(f"`{name}` must be {what}: there is {there}")


def _of_method(folder: ExperimentFolder, method: str) -> list[Path]:
    calibration = folder.method_calibration(method)
    run, checkpoint = folder.run("*", method, "*"), folder.run_checkpoint("*", method, "*")
    patterns = [checkpoint.folder, checkpoint.choice, run.folder]
    patterns += [calibration, calibration.with_name(f".{calibration.name}.*")]
    for stage in STAGES_OF_RUNS:
        patterns.append(folder.run_log(stage, "*", method, "*"))
        patterns.append(folder.run_benchmark(stage, "*", method, "*"))
    for file in (folder.batch_log, folder.batch_benchmark):
        patterns.append(file(method, "*", "*"))
    return [path for pattern in patterns for path in _found(folder, pattern)]


def _found(folder: ExperimentFolder, pattern: Path) -> list[Path]:
    return sorted(folder.folder.glob(str(pattern.relative_to(folder.folder))))


def _measured(paths: list[Path]) -> Forgettable:
    store = root_file(CheckpointFolder(Path()).evaluations)
    trainings = [_json(path) for path in _inside(paths, ABOUT)]
    counts = [_json(path / store.name) for path in _inside(paths, store.parent.name)]
    return Forgettable(
        paths,
        len(trainings),
        sum(about.get("wall_seconds", 0.0) for about in trainings),
        sum(count.get("attributes", {}).get("count", 0) for count in counts),
    )


def _inside(paths: list[Path], name: str) -> Iterator[Path]:
    """Everything of that name in the paths, each once."""
    for path in paths:
        yield from path.rglob(name)


def _json(path: Path) -> dict[str, Any]:
    """The content of a file; empty where it is damaged, which is no reason to keep it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
