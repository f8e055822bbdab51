"""Flows that cannot be, and tensors that do not fit: the message names the rule, the value and the
way out.
"""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.flows import build_flow
from tests.support.type_checks import unchecked

MISTAKES = [
    (
        "chint",
        (1, 8),
        (8,),
        {},
        ["`model_shape` (=(1, 8))", "0 or 2 spatial", "flatten the model to a vector, here (8,)"],
    ),
    (
        "coupling",
        (1, 4, 4, 4),
        (64,),
        {},
        [
            "`model_shape` (=(1, 4, 4, 4))",
            "0 or 2 spatial",
            "flatten the model to a vector, here (64,)",
        ],
    ),
    (
        "coupling",
        (1, 8, 8),
        (64,),
        {},
        ["`data_shape` (=(64,))", "must be (channels, 8, 8)", "`summary`"],
    ),
    (
        "coupling",
        (1, 8, 8),
        (1, 8, 4),
        {},
        ["`data_shape` (=(1, 8, 4))", "must be (channels, 8, 8)"],
    ),
    (
        "coupling",
        (1, 8, 9),
        (1, 8, 9),
        {"levels": 2},
        [
            "the width of `model_shape` (=(1, 8, 9))",
            "divisible by 4",
            "`levels` (=2)",
            "pad the images to 12",
        ],
    ),
    ("coupling", (1, 8, 8), (1, 8, 8), {"kernel": 2}, ["`kernel` (=2)", "odd"]),
    (
        "coupling",
        (1, 8, 8),
        (1, 8, 8),
        {"memory": "none"},
        ["`memory` (='none')", "store, checkpoint, invert"],
    ),
    (
        "coupling",
        (1, 8, 8),
        (1, 8, 8),
        {"precision": "float16"},
        ["`precision` (='float16')", "float32, bfloat16"],
    ),
    (
        "coupling",
        (2,),
        (2,),
        {"levels": 2},
        ["`levels` is no setting of the flow coupling for models of shape (2,)"],
    ),
    (
        "chint",
        (1, 7, 8),
        (1, 7, 8),
        {},
        ["the height of `model_shape` (=(1, 7, 8))", "divisible by 2", "pad the images to 8"],
    ),
    ("chint", (3, 8, 8), (3, 8, 8), {}, ["`model_shape` (=(3, 8, 8))", "power of two"]),
    (
        "chint",
        (1, 8, 8),
        (2, 8, 8),
        {},
        ["`data_shape` (=(2, 8, 8))", "lanes are alike", "use the flow `coupling`"],
    ),
    ("coupling", (), (2,), {}, ["`model_shape` (=())", "at least one size"]),
    ("coupling", (2,), (0,), {}, ["`data_shape` (=(0,))", "each 1 or more"]),
    ("coupling", (2,), (2,), {"depth": 0}, ["`depth` (=0)", "at least 1"]),
    ("coupling", (2,), (2,), {"layers": 0}, ["`layers` (=0)", "at least 1"]),
    ("chint", (2,), (2,), {"hidden": -3}, ["`hidden` (=-3)", "at least 1"]),
    (
        "coupling",
        (2,),
        (2,),
        {"mixing": "shuffle"},
        ["`mixing` (='shuffle')", "permutation or orthogonal"],
    ),
    ("coupling", (2,), (2,), {"activation": "gelu"}, ["`activation` (='gelu')", "silu, relu"]),
    ("coupling", (2,), (2,), {"clamp": 0.0}, ["`clamp` (=0.0)", "positive"]),
    (
        "chint",
        (6,),
        (6,),
        {},
        ["`model_shape` (=(6,))", "power of two", "pad the model, or use the flow `coupling`"],
    ),
    ("chint", (1,), (1,), {}, ["`model_shape` (=(1,))", "power of two"]),
    (
        "chint",
        (4,),
        (2,),
        {},
        ["`data_shape` (=(2,))", "as many elements", "use the flow `coupling`"],
    ),
    ("copling", (2,), (2,), {}, ["`copling`", "coupling, chint", "did you mean `coupling`?"]),
    ("chint", (2,), (2,), {"widht": 3}, ["`widht`", "depth, hidden", "choose one"]),
    ("coupling", (2,), (2,), {"hiden": 3}, ["`hiden`", "did you mean `hidden`?"]),
]


@pytest.mark.parametrize(("name", "model_shape", "data_shape", "settings", "words"), MISTAKES)
def test_mistakes_name_rule_value_and_way_out(
    name: str,
    model_shape: tuple[int, ...],
    data_shape: tuple[int, ...],
    settings: dict[str, object],
    words: list[str],
) -> None:
    with pytest.raises(PflowError) as caught:
        build_flow(name, model_shape, data_shape, **settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["coupling", "chint"])
@unchecked()
def test_wrong_shapes_are_refused(name: str) -> None:
    flow = build_flow(name, (2,), (2,), depth=2, hidden=4)
    x, y = torch.zeros(5, 2), torch.zeros(5, 2)
    for transform in (flow.forward, flow.inverse, flow.log_prob, flow.log_prob_pairs):
        with pytest.raises(PflowError, match=r"x has shape \(5, 1\).*model_shape \(2,\)"):
            transform(x[:, :1], y)
        with pytest.raises(PflowError, match=r"y has shape \(5, 1\).*data_shape \(2,\)"):
            transform(x, y[:, :1])
        with pytest.raises(PflowError, match=r"batch of y \(=3\) must be 1 or that of x \(=5\)"):
            transform(x, y[:3])
    with pytest.raises(PflowError, match="at least 2 pairs, and got 5 x and 1 y"):
        flow.initialise(x, y[:1])
    assert not flow.initialised


def test_compile_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        PflowError, match="needs a C\\+\\+ compiler, and `no-such-compiler` is not there"
    ):
        build_flow("coupling", (2,), (2,), compile=True)
