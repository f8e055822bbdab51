"""The examples in docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "pflow").rglob("*.py"))
    if ">>> " in path.read_text()
]


PUBLIC = ("operators", "flows", "problems", "problems.noise", "problems.priors", "inference.target")
# A waveform needs deepwave, which is optional; what is common to models of noise is shown at each.
WITHOUT = {"Waveform", "Noise"}


def public_classes() -> list[type]:
    """The classes that the rooms offer by name, without protocols."""
    modules = [importlib.import_module(f"pflow.{name}") for name in PUBLIC]
    offered = [getattr(module, name) for module in modules for name in module.__all__]
    return [
        kind
        for kind in offered
        if inspect.isclass(kind)
        and not getattr(kind, "_is_protocol", False)
        and kind.__name__ not in WITHOUT
    ]


@pytest.mark.parametrize("kind", public_classes(), ids=lambda kind: kind.__name__)
def test_a_public_class_has_an_example(kind):
    assert ">>> " in inspect.getdoc(kind), f"{kind.__module__}.{kind.__name__}: write an example"


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted and not tried.failed
