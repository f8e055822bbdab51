"""Provenance of an output: code version, fingerprint of the stage's code, settings, inputs,
software, device.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pflow import __version__
from pflow.provenance.code import code_fingerprint

__all__ = ["identity", "provenance", "settings_hash"]


def provenance(
    stage: str, settings: str, inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Plain data for the attributes of an output; `inputs` are hashes of files, by name."""
    return {
        "stage": stage,
        "code_version": code_version(),
        "code_fingerprint": code_fingerprint(stage, settings),
        "settings_hash": settings_hash(settings),
        "settings": settings,
        "inputs": dict(inputs or {}),
        "software": dict(software()),
    }


def identity(record: dict[str, Any]) -> str:
    """Fingerprint of settings, code and inputs: a checkpoint under another identity is not
    resumed.
    """
    parts = [
        record["stage"],
        record["code_fingerprint"],
        record["settings_hash"],
        *sorted(record["inputs"].values()),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def settings_hash(text: str) -> str:
    """Short fingerprint of a settings text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def software() -> dict[str, str]:
    """Versions of the packages that compute the results."""
    names = ("torch", "numpy", "zarr", "xarray", "snakemake")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@lru_cache(maxsize=1)
def code_version() -> str:
    """Package version and, in a git checkout, the commit (with "+changes" where files differ from
    it).
    """
    folder = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__} ({commit}{'+changes' if changed else ''})"
