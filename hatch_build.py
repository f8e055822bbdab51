"""A wheel carries what Snakemake reads inside the package, in the same order as in a clone.

An editable install needs no copy: pflow finds the files beside the package.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILES = ("Snakefile", "workflow", "profiles", "envs")


class SnakemakeFiles(BuildHookInterface):
    """Maps the files to pflow/snakemake."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` tells an editable one."""
        if version == "standard":
            build_data["force_include"] |= {name: f"pflow/snakemake/{name}" for name in FILES}
