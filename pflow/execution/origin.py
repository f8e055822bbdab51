"""At the end of a job: what made its results, in a file beside them.

A job that ends before that leaves results that differ from the origin beside them, or have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pflow.errors import PflowError
from pflow.storage.data_hash import data_hash
from pflow.storage.layout import whole
from pflow.storage.origins import (
    FileState,
    InputState,
    Origin,
    file_hash,
    file_state,
    find_origins,
    origin_file,
    origin_of,
    read_origin,
    write_origin,
)

__all__ = ["has_origin", "input_states", "record_origin"]


def input_states(
    result: Path, inputs: Iterable[Path], data: Iterable[str]
) -> dict[str, InputState]:
    """What a job reads.

    Arguments:
        result: its main result, or the place of it.
        inputs: results of other jobs; a folder stands for all results in it but this one.
        data: files of the user, as configured; the stage says if one is not there.

    Raises:
        PflowError: a file cannot be read.
    """
    folder = whole(result).parent
    states: dict[str, InputState] = {}
    try:
        for path in inputs:
            if path.is_dir():
                states |= _results_below(path, folder, origin_file(result))
            else:
                states[_name(path, folder)] = _input_state(path)
        for file in data:
            if Path(file).is_file():
                states[file] = InputState(data_hash(file, folder), "")
    except OSError as error:
        raise PflowError(
            f"{error.filename} cannot be read ({error.strerror}): make it readable and run again"
        ) from error
    return states


def record_origin(
    stage: str, settings: str, code: str, inputs: dict[str, InputState], outputs: Sequence[Path]
) -> None:
    """Write the origin of results, of which the main one is the first."""
    folder = whole(outputs[0]).parent
    states = {_name(path, folder): file_state(path) for path in outputs if path.is_file()}
    write_origin(outputs[0], Origin(stage, settings, code, inputs, states))


def has_origin(
    stage: str, settings: str, code: str, inputs: dict[str, InputState], outputs: Sequence[Path]
) -> bool:
    """Whether results are there, as a job with these settings, code and inputs wrote them; of
    inputs the content counts.
    """
    origin, folder = read_origin(outputs[0]), whole(outputs[0]).parent
    if origin is None or (origin.stage, origin.settings, origin.code) != (stage, settings, code):
        return False
    if _hashes(origin.inputs) != _hashes(inputs):
        return False
    paths = {
        name: folder / name for name in (*origin.outputs, *(_name(p, folder) for p in outputs))
    }
    return all(path.is_file() for path in paths.values()) and _hashes(origin.outputs) == {
        name: file_hash(path) for name, path in paths.items()
    }


def _hashes(states: Mapping[str, InputState] | Mapping[str, FileState]) -> dict[str, str]:
    return {name: state.hash for name, state in states.items()}


def _input_state(path: Path) -> InputState:
    """A result is as its job wrote it, or its reader stops; so it is not hashed again."""
    origin = origin_of(path)
    if origin is None:
        return InputState(file_hash(path), "")
    written = origin.outputs[_name(path, whole(path).parent)]
    return InputState(written.hash, origin.job)


def _results_below(place: Path, folder: Path, own: Path) -> dict[str, InputState]:
    return {
        _name(where / name, folder): InputState(state.hash, origin.job)
        for where, origin in find_origins(place)
        if origin_file(where / next(iter(origin.outputs))) != own
        for name, state in origin.outputs.items()
    }


def _name(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
