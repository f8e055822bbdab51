"""A user's pairs: the parts of the split are disjoint and complete, and what would spoil training
is refused.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pflow.config.data import PairsSettings
from pflow.config.loading import load_configuration
from pflow.data.user_pairs import cut_shard
from pflow.errors import PflowError
from pflow.pipeline.job_settings import shard_count

PARTS = {"train": 0.7, "validation": 0.1, "test": 0.2}
ROWS = 500


@pytest.fixture
def source(tmp_path):
    return written(tmp_path / "pairs.npz")


def written(path, change=lambda x, y: None, rows=ROWS) -> PairsSettings:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(rows, 2)), random.normal(size=(rows, 3, 2))
    y[:, 0, 0] = x[:, 0]  # a pair knows its partner
    change(x, y)
    np.savez(path, x=x, y=y)
    return PairsSettings(file=path, **PARTS)


def cut(source, split, shard=0):
    return cut_shard(source, split, shard, (2,), (3, 2))


def test_parts_are_disjoint_complete_and_keep_pairs_together(source):
    parts = {split: cut(source, split) for split in PARTS}
    assert {split: len(x) for split, (x, _) in parts.items()} == {
        "train": 350,
        "validation": 50,
        "test": 100,
    }
    x = np.concatenate([x for x, _ in parts.values()])
    np.testing.assert_array_equal(
        np.sort(x[:, 0]), np.sort(np.load(source.file)["x"][:, 0].astype(np.float32))
    )
    for x, y in parts.values():
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x[:, 0], y[:, 0, 0])
    assert not np.array_equal(
        parts["train"][0], cut(dataclasses.replace(source, seed=1), "train")[0]
    )


def test_shards_cut_the_training_part_and_leave_the_others(source):
    many = dataclasses.replace(source, shards=3)
    together = np.concatenate([cut(many, "train", k)[0] for k in range(3)])
    np.testing.assert_array_equal(together, cut(source, "train")[0])


def with_nan(x, y):
    y[7, 1, 1] = np.nan


def with_a_dead_channel(x, y):
    y[:, 2] = 4.0


def with_copies(x, y):
    x[9:18] = x[0:9]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_nan, "`y` has NaN or infinity in 1 of its 500 rows, first in row 7"),
        (with_a_dead_channel, "`y` is constant in channel 2"),
        (
            with_copies,
            (
                r"9 of the 500 models `x` are copies of another \(rows 0 and 9 are"
                r" equal\).*duplicates: together"
            ),
        ),
    ],
)
def test_what_would_spoil_training_is_refused_in_every_part(tmp_path, change, expected):
    source = written(tmp_path / "pairs.npz", change)
    for split in PARTS:
        with pytest.raises(PflowError, match=expected):
            cut(source, split)


def test_equal_models_stay_in_one_part(tmp_path):
    source = dataclasses.replace(
        written(tmp_path / "pairs.npz", with_copies), duplicates="together"
    )
    parts = [cut(source, split)[0] for split in PARTS]
    sets = [{row.tobytes() for row in x} for x in parts]
    assert (
        sum(map(len, parts)) == ROWS
        and not (sets[0] & sets[2])
        and not (sets[0] & sets[1])
        and not (sets[1] & sets[2])
    )


def test_shapes_that_are_not_the_problems(source):
    with pytest.raises(
        PflowError, match=r"one `x` has the shape \(2,\), and the problem's x has \(3,\)"
    ):
        cut_shard(source, "train", 0, (3,), (3, 2))


EXPERIMENT = {
    "observations": {"y1": "y1.npy"},
    "flows": {"c": {"name": "coupling"}},
    "finetune": {"a": {"flow": "c", "objective": "none"}},
}


@pytest.fixture
def folder(source, monkeypatch):
    monkeypatch.chdir(source.file.parent)
    np.save("y1.npy", np.zeros((3, 2)))
    return source.file.parent


def configured(**changes) -> dict:
    return {"experiments": {"t": EXPERIMENT | {"pairs": {"file": "pairs.npz", **PARTS}} | changes}}


def test_pairs_alone_are_a_problem_whose_shapes_the_file_knows(folder):
    experiment = load_configuration(configured()).experiments["t"]
    assert (experiment.problem.model_shape, experiment.problem.data_shape) == ([2], [3, 2])
    assert experiment.reference.kind == "none"
    assert [
        shard_count(experiment, split) for split in ("train", "validation", "test", "high_fidelity")
    ] == [1, 1, 1, 0]
    short = load_configuration(configured(pairs="pairs.npz")).experiments["t"].pairs  # a path alone
    assert short.train == 0.8


REPLAY = {"flow": "c", "start": "pretrained", "objective": "score_replay", "evaluations": 64}
WRONG = {
    "a method that evaluates F": (
        {"finetune": {"b": REPLAY}},
        "`experiments.t.finetune.b.objective` (=score_replay) evaluates the operator",
    ),
    "a simulated observation": (
        {"observations": {"y1": {"seed": 1}}},
        "`experiments.t.observations.y1` would be simulated",
    ),
    "NUTS": (
        {"reference": {"kind": "nuts"}},
        "`experiments.t.reference.kind` (=nuts) evaluates the operator",
    ),
    "neither problem nor pairs": ({"pairs": None}, "`experiments.t.problem` is missing"),
    "pairs and simulate": ({"simulate": {"train": 10}}, "both say where the pairs come from"),
    "another shape": (
        {"problem": {"name": "pairs_only", "model_shape": [5]}},
        "`experiments.t.problem.model_shape` (=[5]) must be that of pairs.npz, [2]",
    ),
    "fractions above one": (
        {"pairs": {"file": "pairs.npz", "train": 0.9, "test": 0.2}},
        "must be at most 1",
    ),
    "too few for a test": (
        {"pairs": {"file": "pairs.npz", "test": 0.05}},
        "gives 25 of the 500 pairs of pairs.npz and must give at least 50",
    ),
    "a missing file": (
        {"pairs": "gone.npz"},
        "`experiments.t.pairs.file` (='gone.npz') is not there",
    ),
    "a missing array": (
        {"pairs": {"file": "pairs.npz", "x": "model"}},
        "has no array `model`; it has x, y: set experiments.t.pairs.x",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_pairs_alone_cannot_do_is_refused_at_configuration(folder, case):
    changes, expected = WRONG[case]
    with pytest.raises(PflowError) as error:
        load_configuration(configured(**changes))
    assert expected in str(error.value)
