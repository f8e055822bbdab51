"""CONTRIBUTING.md names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MAP = re.findall(r"^\| (.+\?) \| `(.+)` \|$", TEXT, re.MULTILINE)


def test_the_map_answers_twenty_questions_with_one_file_each():
    questions = [question for question, _ in MAP]
    assert len(set(questions)) == len(questions) >= 20


@pytest.mark.parametrize(("question", "file"), MAP)
def test_every_file_of_the_map_exists(question, file):
    assert (ROOT / file).is_file(), f"{question} CONTRIBUTING.md answers {file}, which is not there"


def test_every_file_to_touch_exists():
    """Of the recipes: all paths without a placeholder."""
    for file in re.findall(r"`((?:pflow|tests|docs|workflow)/[\w./]+)`", TEXT):
        assert (ROOT / file).exists(), f"CONTRIBUTING.md names {file}, which is not there"
