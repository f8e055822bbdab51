"""Descriptions of arguments, read from docstrings."""

from __future__ import annotations

import re

__all__ = ["described_arguments"]

# The heading, and all lines below it that are empty or indented.
SECTION = re.compile(r"^(?:Arguments|Args):\n((?:(?: .*)?\n?)+)", re.MULTILINE)
# "    side, length: text", and lines that are indented further.
ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def described_arguments(docstring: str) -> dict[str, str]:
    r"""The description of each argument in the section `Arguments:`, with a capital first letter.

    Arguments:
        docstring: without the indentation that all its lines share.

    >>> described_arguments("A field.\n\nArguments:\n    side, length: in grid points.")
    {'side': 'In grid points.', 'length': 'In grid points.'}
    """
    section = SECTION.search(docstring)
    if section is None:
        return {}
    return {
        name: text[:1].upper() + " ".join(text.split())[1:]
        for names, text in ENTRY.findall(section.group(1))
        for name in names.split(", ")
    }
