"""A problem from a user's file: built with its settings; what goes wrong in it is told with its
line.
"""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch

from pflow.errors import PflowError
from pflow.problems import Gaussian
from pflow.problems.data_only import DataOnly
from pflow.problems.user_module import load_problem


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of a name of its own; what it leaves in sys is removed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write_module(text: str, name: str = "users_problem"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return path

    yield write_module
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_class_and_a_factory_with_a_module_beside_them(write):
    write("SIDE = 3\n", "users_helper")
    path = write("""
        from pflow.problems import Gaussian
        from users_helper import SIDE

        class Mine(Gaussian):
            def __init__(self, noise_std: float = 0.4):
                super().__init__(side=SIDE, noise_std=noise_std)

        def make(side: int) -> Gaussian:
            return Gaussian(side=side)
        """)
    mine = load_problem(path, "Mine", {"noise_std": 0.7})
    assert isinstance(mine, Gaussian) and mine.noise_std == 0.7 and mine.model_shape == (9,)
    assert load_problem(path, "make", {"side": 2}).model_shape == (4,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "import no_such_library\n",
            (
                r"users_problem\.py cannot be imported \(users_problem\.py, line 1\):"
                r" ModuleNotFoundError"
            ),
        ),
        (
            "def Mine(side=1):\n    raise ValueError('too small')\n",
            r"Mine\(side=1\) of .* failed \(users_problem\.py, line 2\): ValueError: too small",
        ),
        (
            "def Mine(side=1):\n    return 7\n",
            "must be a subclass of pflow.problems.Problem or return one, and gives a int",
        ),
    ],
)
def test_what_goes_wrong_in_it_is_told_with_its_line(write, text, expected):
    with pytest.raises(PflowError, match=expected):
        load_problem(write(text), "Mine", {"side": 1})


def test_a_file_with_the_name_of_a_library_is_refused(write):
    with pytest.raises(PflowError, match="rename the file"):
        load_problem(write("x = 1\n", "torch"), "Mine", {})


def test_pairs_alone_refuse_to_be_evaluated():
    problem = DataOnly((2, 3), (4,))
    assert (
        problem.model_shape == (2, 3)
        and problem.data_shape == (4,)
        and len(problem.parameter_names) == 6
    )
    assert problem.exact_posterior(torch.zeros(1, 4)) is None
    for attempt in (
        lambda: problem.high_fidelity(torch.zeros(1, 2, 3)),
        lambda: problem.sample_prior(1),
        lambda: problem.log_prior(torch.zeros(1, 2, 3)),
    ):
        with pytest.raises(PflowError, match="pairs alone has no"):
            attempt()
