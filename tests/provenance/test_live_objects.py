"""Fingerprints of objects: what they compute counts, how it is written does not."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch.distributions import Beta, Uniform

from pflow.errors import PflowError
from pflow.problems import Gaussian, PriorProblem, Rosenbrock
from pflow.problems.priors import Unconstrained
from pflow.provenance.live_objects import live_fingerprint

FUNCTION = "def f(x):\n    return 2.0 * x + shift\n"


def defined(source: str, name: str = "f", **names):
    """What a notebook's cell defines, with names of other cells."""
    scope = {"__name__": "__main__", "np": np, **names}
    exec(source, scope)
    return scope[name]


def of(source: str, **names) -> str:
    return live_fingerprint(defined(source, **names))


def test_comments_docstrings_and_places_do_not_count():
    commented = '\n\ndef f(x):\n    "What it does."\n    # why\n    return 2.0 * x + shift\n'
    assert of(commented, shift=1.0) == of(FUNCTION, shift=1.0)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param(FUNCTION.replace("2.0", "2.5"), {"shift": 1.0}, id="constant"),
        pytest.param(FUNCTION.replace("+", "-"), {"shift": 1.0}, id="operation"),
        pytest.param(FUNCTION, {"shift": 1.5}, id="global number"),
        pytest.param(FUNCTION, {"shift": np.ones(2)}, id="global array"),
        pytest.param(FUNCTION, {"shift": torch.ones(2)}, id="global tensor"),
    ],
)
def test_what_a_function_computes_counts(source, names):
    assert of(source, **names) != of(FUNCTION, shift=1.0)


def test_arrays_count_by_their_content():
    first, second = np.arange(6.0), np.arange(6.0)
    assert of(FUNCTION, shift=first) == of(FUNCTION, shift=second)
    second[-1] = 7
    assert of(FUNCTION, shift=first) != of(FUNCTION, shift=second)


def test_functions_that_are_called_count_and_other_names_do_not():
    outer = "def f(x):\n    return g(x).mean()\n"
    g, h = (defined(f"def g(x):\n    return x ** {power}\n", "g") for power in (2, 3))
    assert of(outer, g=g) != of(outer, g=h)
    # `mean` is an attribute in f, and a name of another cell
    assert of(outer, g=g, mean=1.0) == of(outer, g=g, mean=2.0)


def test_what_a_function_counts_itself_does_not():
    counting = "def f(x):\n    global calls\n    calls += 1\n    return x\n"
    assert of(counting, calls=0) == of(counting, calls=5)


def test_a_class_counts_with_its_methods_and_its_object_with_its_attributes():
    method = "    def F(self, x):\n        return x"
    source = f"class f:\n    def __init__(self, a):\n        self.a = a\n{method}"
    kind = defined(source)
    assert live_fingerprint(kind(1.0)) == live_fingerprint(defined(source)(1.0))
    assert live_fingerprint(kind(1.0)) != live_fingerprint(kind(2.0))
    assert live_fingerprint(kind(1.0)) != live_fingerprint(defined(source + " + 1")(1.0))
    assert live_fingerprint(kind(1.0).F) != live_fingerprint(kind(2.0).F)


def test_arguments_that_a_partial_function_holds_count():
    fixed = [functools.partial(np.add, number) for number in (1.0, 1.0, 2.0)]
    a, b, c = map(live_fingerprint, fixed)
    assert a == b != c


def test_a_problem_has_one_fingerprint_before_and_after_its_use():
    def bounded() -> PriorProblem:
        prior = Unconstrained({"a": Uniform(0.0, 1.0), "b": Beta(2.0, 2.0)})
        operator = Rosenbrock().high_fidelity
        return PriorProblem(prior, operator, operator, noise_std=0.1)

    for make in (Rosenbrock, Gaussian, bounded):
        problem, fresh = make(), live_fingerprint(make())
        x, y = problem.simulate(3)
        problem.high_fidelity.vjp(x, y), problem.log_prior(x), problem.physical(x)
        assert live_fingerprint(problem) == fresh
    assert live_fingerprint(Rosenbrock(noise_std=0.3)) != live_fingerprint(Rosenbrock())


def test_an_open_file_is_refused_with_a_way_out(tmp_path):
    with (tmp_path / "data").open("w") as file, pytest.raises(PflowError, match="name the file"):
        live_fingerprint({"data": file})
