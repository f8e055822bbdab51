"""What differs where another workflow uses pflow as a module (`module pflow: ...`).

Its Snakefile is then read inside another one, with a configuration that is given, and for each
`use rule` again. The Snakefile alone imports this module, and what it imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.errors import PflowError

__all__ = ["configuration_is_given", "is_module", "require_no_prefix"]


def is_module(workflow: Any) -> bool:
    """Whether the Snakefile that is being read is a module of another."""
    return not workflow.modifier.is_main_snakefile()


def configuration_is_given(workflow: Any, config: dict[str, Any]) -> bool:
    """Whether nothing but `config` counts, and no config.yaml: in a module with `config:`, and for
    `pflow run FILE`, whose mark `alone` is removed.
    """
    return workflow.modifier.skip_configfile or config.pop("alone", False)


def require_no_prefix(workflow: Any, results: Path) -> None:
    """Commands name their files themselves, so Snakemake may not move them.

    Raises:
        PflowError: the module has `prefix` or `replace_prefix`.
    """
    folder = f"{results}/"
    moved = str(workflow.modifier.path_modifier.replace_prefix(folder))
    if moved != folder:
        raise PflowError(
            f"`prefix` and `replace_prefix` of a module move the results (={folder}) to {moved},"
            " where the jobs of pflow do not write them: remove it, and set `results` in the"
            " configuration"
        )
