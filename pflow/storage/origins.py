"""What made a result: a small file `.NAME.origin` beside the main result of a job.

It holds the settings and the fingerprint of the code of the job, and size, time and hash of what
the job read and wrote. Planning compares it with what is wanted, and a reader refuses a file that
was changed after its job wrote it. A store stands for its root `zarr.json`, which holds the hash of
its content. Planning reads origins, so heavy libraries are not imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pflow.errors import PflowError
from pflow.storage.atomic import replacing
from pflow.storage.layout import CHECKPOINTS, whole

__all__ = [
    "FileState",
    "InputState",
    "Origin",
    "file_hash",
    "file_state",
    "find_origins",
    "job_fingerprint",
    "origin_file",
    "origin_of",
    "read_origin",
    "require_unchanged",
    "write_origin",
]

SUFFIX = ".origin"
PIECE = 2**20  # bytes that are hashed at once


class FileState(NamedTuple):
    """A file: bytes, time of its last change in ns, and hash of its content."""

    size: int
    mtime_ns: int
    hash: str


class InputState(NamedTuple):
    """The content of an input, and the job that made it (`Origin.job`); "" for a file of the
    user.
    """

    hash: str
    made_by: str


@dataclass(frozen=True)
class Origin:
    """What made a result.

    Attributes:
        stage: name of the stage.
        settings: settings text of the job.
        code: fingerprint of its code.
        inputs: by path, relative to the folder of the result; a file of the user as configured.
        outputs: by path, relative to the folder of the result; the main result is the first.
    """

    stage: str
    settings: str
    code: str
    inputs: Mapping[str, InputState]
    outputs: Mapping[str, FileState]

    @property
    def job(self) -> str:
        """Fingerprint of stage, settings and code."""
        return job_fingerprint(self.stage, self.settings, self.code)


def job_fingerprint(stage: str, settings: str, code: str) -> str:
    """Fingerprint of a job, whatever its inputs are."""
    return hashlib.sha256("\0".join((stage, settings, code)).encode()).hexdigest()[:16]


def origin_file(result: Path) -> Path:
    """The origin beside the main result of a job."""
    return whole(result).with_name(f".{whole(result).name}{SUFFIX}")


def read_origin(result: Path) -> Origin | None:
    """The origin of the main result of a job; None if there is none, or it is damaged."""
    return _read(origin_file(result))


def write_origin(result: Path, origin: Origin) -> None:
    """Write the origin of the main result of a job."""
    content = {
        "stage": origin.stage,
        "settings": origin.settings,
        "code": origin.code,
        "inputs": origin.inputs,
        "outputs": origin.outputs,
    }
    with replacing(origin_file(result)) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def origin_of(file: Path) -> Origin | None:
    """The origin of any output of a job: its main result, or a file beside that."""
    folder, own = whole(file).parent, origin_file(file)
    name = file.relative_to(folder).as_posix()
    others = () if own.is_file() else sorted(folder.glob(f".*{SUFFIX}"))
    for origin in map(_read, (own, *others)):
        if origin is not None and name in origin.outputs:
            return origin
    return None


def find_origins(folder: Path) -> Iterator[tuple[Path, Origin]]:
    """Every origin below a folder, with the folder that it lies in."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != CHECKPOINTS and not f.endswith(".zarr"))
        for name in sorted(files):
            origin = _read(Path(place, name)) if name.endswith(SUFFIX) else None
            if origin is not None:
                yield Path(place), origin


def require_unchanged(file: str | Path) -> None:
    """Whether a file is what its job wrote; a file without an origin is accepted.

    Raises:
        PflowError: the file was changed.
    """
    file = Path(file)
    origin = origin_of(file)
    if origin is None or not file.is_file():
        return
    written = origin.outputs[file.relative_to(whole(file).parent).as_posix()]
    if file_hash(file) != written.hash:
        raise PflowError(
            f"{file} was changed after it was written: delete it and run snakemake again"
        )


def file_state(path: Path) -> FileState:
    """Size, time and hash of a file."""
    status = path.stat()
    return FileState(status.st_size, status.st_mtime_ns, file_hash(path))


def file_hash(path: str | Path) -> str:
    """Short hash of a file's bytes; of a store, that of its root `zarr.json`, which holds the
    content's hash.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()[:16]


def _read(file: Path) -> Origin | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Origin(
            content["stage"],
            content["settings"],
            content["code"],
            {name: InputState(*state) for name, state in content["inputs"].items()},
            {name: FileState(*state) for name, state in content["outputs"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
