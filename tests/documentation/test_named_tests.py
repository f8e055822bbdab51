"""Tests that a page names exist: `[`test_x`](../tests/y/test_z.py)` is a function of that file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"\[`(test_\w+)`\]\(([^)]*tests/[^)]*\.py)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_test_exists(page):
    for name, file in NAMED.findall(page.read_text()):
        path = page.parent / file
        assert path.is_file(), f"{page.name} names {file}"
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{page.name} names {name}, and {file} has no such test"


def test_every_row_of_the_table_of_faults_names_its_test():
    text = (ROOT / "docs/execution.md").read_text()
    rows = text[text.index("\n## Faults") :].split("\n## ")[1].split("|---|---|---|\n")[1]
    rows = [row for row in rows.splitlines() if row.startswith("|")]
    assert len(rows) > 20
    assert [row for row in rows if not NAMED.search(row)] == []
