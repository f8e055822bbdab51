"""Settings and lists of files that are too long for a command line lie in files of their own.

Linux takes at most 131 072 bytes as one argument, and Snakemake passes a whole command as one. A
longer text lies in `results/.arguments/HASH`, and a job that reads it there checks the hash.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from pflow.errors import PflowError
from pflow.pipeline.batches import observations_made
from pflow.provenance.record import settings_hash
from pflow.storage.atomic import replacing
from pflow.storage.layout import BATCHES

__all__ = ["expanded", "files_argument", "settings_argument", "settings_text"]

LONGEST_SETTINGS = 2**16  # bytes in a shell; the rest of a command has the other half
LONGEST_FILES = 2**15
FOLDER = ".arguments"


def settings_argument(text: str, results: Path) -> str:
    """The text itself, or the path of a file below `results` where it is too long.

    Raises:
        PflowError: that file cannot be written.
    """
    return text if _bytes(text) <= LONGEST_SETTINGS else _written(text, results, ".json")


def settings_text(argument: str) -> str:
    """The settings that an argument names, as JSON with sorted keys.

    Raises:
        PflowError: it is neither JSON nor a readable file, or the file was changed after the job
            was planned.
    """
    text = argument
    if not argument.lstrip().startswith(("{", "[")):
        text = _read(Path(argument), "--settings")
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (json.JSONDecodeError, RecursionError) as error:
        raise PflowError(f"--settings is not valid JSON: {error}") from error


def files_argument(files: Sequence[str], results: Path) -> list[str]:
    """The files themselves, or the path of a file below `results` that lists them, if that is too
    long.

    Raises:
        PflowError: that file cannot be written.
    """
    text = "\n".join(files)
    return list(files) if _bytes(text) <= LONGEST_FILES else [_written(text, results, ".txt")]


def expanded(files: list[Path], option: str) -> list[Path]:
    """The files that an option names, in place of a list of them, and in place of a batch the
    observations that it has made.

    Raises:
        PflowError: the list was changed after the job was planned.
    """
    if len(files) == 1 and files[0].parent.name == FOLDER:
        files = [Path(line) for line in _read(files[0], option).split("\n")]
    parts = (observations_made(f) if f.parent.name == BATCHES else [f] for f in files)
    return list(chain.from_iterable(parts))


def _bytes(text: str) -> int:
    return len(shlex.quote(text).encode())


def _written(text: str, results: Path, suffix: str) -> str:
    path = results / FOLDER / f"{settings_hash(text)}{suffix}"
    content = text.encode()
    if not path.is_file() or path.read_bytes() != content:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return str(path)


def _read(path: Path, option: str) -> str:
    try:
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        what = "JSON text or a readable file" if option == "--settings" else "a readable file"
        reason = getattr(error, "strerror", None) or error
        raise PflowError(f"{option} (={path}) must be {what}: {reason}") from error
    if path.parent.name == FOLDER and path.stem != settings_hash(text):
        raise PflowError(
            f"{option} (={path}) was changed after this job was planned: run snakemake again"
        )
    return text
