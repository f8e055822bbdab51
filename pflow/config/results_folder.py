"""The folder of results, as the configuration names it."""

from __future__ import annotations

import os

from pflow.errors import PflowError

__all__ = ["results_folder"]


def results_folder(given: str) -> str:
    """The folder with a leading `~` expanded.

    Raises:
        PflowError: no folder is named, or the name has characters that a pattern of Snakemake or a
            command line reads as something else.
    """
    folder = os.path.expanduser(given)
    for broken, rule in (
        (not folder.strip(), "must name a folder"),
        (folder != folder.strip(), "must not begin or end with white space"),
        (folder.startswith("~"), "names the home of a user who is unknown here"),
        (folder.startswith("-"), "must not begin with `-`, which is that of an option"),
        (any(c in folder for c in "{}"), "must have no braces, which are Snakemake's wildcards"),
        (not folder.isprintable(), "must have no line break or control character"),
        (set(folder) == {"/"}, "must not be the root of the file system"),
    ):
        if broken:
            raise PflowError(f"`results` (={given!r}) {rule}: set it to a path such as results")
    return folder
