"""The fingerprint of the planned code is passed to the job in its environment; a job refuses other
code.

Snakemake records the fingerprint of the plan. If code were edited between plan and job, and
restored afterwards, a result of the edited code would be taken for one of the planned code.
"""

from __future__ import annotations

import importlib
import json
import os
from functools import cache

from pflow.errors import PflowError
from pflow.provenance.code import code_fingerprint, entry_of, forget_code, reached, words_for

__all__ = ["forget_inherited_plan", "forget_plan", "load_planned_code", "planned_code"]

VARIABLE = "PFLOW_PLANNED_CODE"


def forget_plan() -> None:
    """Called before a workflow plans: removes the fingerprints of an earlier plan from the
    environment.
    """
    os.environ.pop(VARIABLE, None)


@cache
def forget_inherited_plan() -> None:
    """Called whenever a Snakefile is read, and forgets once: a workflow that uses pflow as a module
    reads it again for each `use rule` and each such module, and all of them plan together.
    """
    forget_plan()


def planned_code(stage: str, settings: str) -> str:
    """Fingerprint of the code that can change the result of a job, stored for this process and all
    that it starts. A batch job plans once more, and keeps what its controller planned.
    """
    planned, key = _planned(), _key(stage, settings)
    if key not in planned:
        planned[key] = code_fingerprint(stage, settings)
        os.environ[VARIABLE] = json.dumps(planned)
    return planned[key]


def load_planned_code(stage: str, settings: str, loaded: set[str] | None = None) -> None:
    """Import the code of a job, if it was planned, and check that it is the planned one.

    All its modules are imported here, so that later edits do not reach the job. They are compared
    before and after.

    Arguments:
        stage: name of the stage.
        settings: the job's settings text.
        loaded: the code that this process has loaded for earlier jobs of a batch, which is not
            loaded again; that of this job is added.

    Raises:
        PflowError: the code was changed after the job was planned.
    """
    key = _key(stage, settings)
    loaded = set() if loaded is None else loaded
    if key not in _planned() or key in loaded:
        return
    _require(stage, settings)
    for module in sorted({node.module for node in reached(*_job(stage, settings))}):
        importlib.import_module(module)
    forget_code()
    _require(stage, settings)
    loaded.add(key)


def _require(stage: str, settings: str) -> None:
    planned, current = _planned().get(_key(stage, settings)), code_fingerprint(stage, settings)
    if planned != current:
        raise PflowError(
            f"the code of pflow was changed after this job was planned (code {planned}, now"
            f" {current}): run snakemake again"
        )


def _job(stage: str, settings: str) -> tuple[tuple[str, ...], frozenset[str] | None]:
    entries = (entry_of(stage),)
    return entries, words_for(entries, settings)


def _key(stage: str, settings: str) -> str:
    return " ".join((stage, *sorted(_job(stage, settings)[1] or ())))


def _planned() -> dict[str, str]:
    return json.loads(os.environ.get(VARIABLE, "{}"))
