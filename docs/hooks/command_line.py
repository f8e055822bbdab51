"""The page on the command line, from the help of each command."""

from __future__ import annotations

import argparse
import os

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pflow.cli import parser

INTRODUCTION = """# Command line

`pflow COMMAND` and `python -m pflow COMMAND` are the same. The first commands are for a project of
yours. The others are the stages of the pipeline, each from files to files, which Snakemake runs for
you; the log of every job begins with such a command. Exit status: 0, 1 (a rule was broken: one
message), 2 (usage), 128 + signal.
"""
WIDTH = "84"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    os.environ["COLUMNS"] = WIDTH
    commands = next(
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    sections = [
        f"## {name}\n\n```text\n{_help(command)}```\n" for name, command in commands.choices.items()
    ]
    content = "\n".join((INTRODUCTION, *sections))
    files.append(File.generated(config, "command_line.md", content=content))
    return files


def _help(command: argparse.ArgumentParser) -> str:
    return command.format_help().replace("python -m pflow", "pflow")
