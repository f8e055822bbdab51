"""Settings of built-in problems are read from the source of their classes: what is read must be
what the classes themselves say once they are imported.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from pflow.config.decoding import decode, encode
from pflow.config.docstring import described_arguments
from pflow.config.problems import ProblemSettings, problem_settings
from pflow.config.schema import schema
from pflow.errors import PflowError
from pflow.problems import PROBLEMS
from pflow.stages.io.inputs import problem_from
from tests.support.imported import imported_by

OTHER_SIZES = {
    "gaussian": {"side": 3},
    "lognormal": {"side": 3},
    "traveltime": {"side": 6, "sources": 2, "receivers": 3},
    "waveform": {"side": 5, "sources": 2, "receivers": 3},
    "seismic": {"height": 8, "width": 16},
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_settings_are_the_arguments_of_the_class_with_their_defaults(name):
    parameters = inspect.signature(PROBLEMS[name]).parameters
    assert problem_settings(name).settings == {
        argument: parameter.default for argument, parameter in parameters.items()
    }


@pytest.mark.parametrize("name", PROBLEMS)
def test_bounds_are_those_of_the_annotations(name):
    hints = typing.get_type_hints(PROBLEMS[name].__init__, include_extras=True)
    for field in dataclasses.fields(problem_settings(name)):
        declared = getattr(hints[field.name], "__metadata__", ())
        bounds = dict(declared[0].metadata) if declared else {}
        for bound in ("minimum", "above", "maximum", "below"):
            assert field.metadata[bound] == bounds.get(bound), f"{field.name}: {bound}"


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_setting_is_described_in_the_docstring(name):
    described = described_arguments(inspect.getdoc(PROBLEMS[name]))
    assert list(described) == list(inspect.signature(PROBLEMS[name]).parameters)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_model_shape_is_known_without_building_the_problem(name):
    if name == "waveform":
        pytest.importorskip("deepwave")
    settings = problem_settings(name, **OTHER_SIZES.get(name, {}))
    assert settings.model_shape == problem_from(settings).model_shape


def test_settings_survive_encoding():
    settings = problem_settings("seismic", height=16, training_rows=[0, 64])
    plain = encode(settings)
    assert (plain["name"], plain["training_rows"]) == ("seismic", [0, 64])
    assert decode(ProblemSettings, plain, "problem") == settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"side": 0}, "`side` (=0) must be at least 1: set problem.side"),
        ({"side": 65}, "`side` (=65) must be at most 64: set problem.side"),
        ({"length": 0}, "`length` (=0.0) must be positive: set problem.length"),
        ({"sdie": 8}, "`problem.sdie` is not a setting: did you mean `side`?"),
        ({"jitter": 1e-2}, "`problem.jitter` is not a setting"),
    ],
)
def test_mistakes_in_settings_of_a_built_in_problem(settings, expected):
    with pytest.raises(PflowError) as error:
        decode(ProblemSettings, {"name": "gaussian", **settings}, "problem")
    assert expected in str(error.value)


def test_the_schema_has_descriptions_bounds_and_defaults():
    experiment = schema()["properties"]["experiments"]["additionalProperties"]
    (gaussian,) = (
        problem
        for problem in experiment["properties"]["problem"]["anyOf"]
        if problem["properties"].get("name", {}).get("const") == "gaussian"
    )
    assert gaussian["properties"]["side"] == {
        "type": ["integer", "string"],
        "description": "Points along each side of the grid: the model has side * side parameters.",
        "minimum": 1,
        "maximum": 64,
        "default": 8,
    }
    assert gaussian["description"] == (
        "Correlated Gaussian prior on a square grid with dense linear operators: the posterior is"
        " exact in any dimension."
    )


def test_no_problem_is_imported_to_read_its_settings():
    names = imported_by(
        "from pflow.config.problems import problem_settings\n"
        "problem_settings('gaussian').model_shape"
    )
    assert not [name for name in names if name.startswith(("torch", "pflow.problems"))]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("A field.", {}),
        ("A field.\n\nArguments:\n    side: of the grid.", {"side": "Of the grid."}),
        (
            "A field.\n\nArguments:\n    side, length: in grid\n        points.\n    kind: `a` or\n"
            "        b: two of them.\n\nRaises:\n    PflowError: for impossible values.",
            {
                "side": "In grid points.",
                "length": "In grid points.",
                "kind": "`a` or b: two of them.",
            },
        ),
    ],
)
def test_arguments_are_described_by_their_section_of_the_docstring(docstring, expected):
    assert described_arguments(docstring) == expected
