"""No point is evaluated twice: not within a run, not after a kill, not for a larger budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.problems import build_problem
from pflow.storage import evaluations
from pflow.storage.evaluations import EvaluationStore

Y = torch.tensor([[1.0, 2.0]])


@pytest.fixture
def points() -> torch.Tensor:
    return build_problem("rosenbrock").sample_prior(700, torch.Generator().manual_seed(0))


class Counting:
    """The Rosenbrock problem, counting the points that its operator is asked for."""

    def __init__(self):
        self.problem, self.asked = build_problem("rosenbrock"), 0
        self.log_likelihood, self.log_prior = self.problem.log_likelihood, self.problem.log_prior

    def high_fidelity(self, x):
        self.asked += len(x)
        return self.problem.high_fidelity(x)


def same(a, b):
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("log_likelihood", "log_prior", "score", "valid")
    )


def test_known_points_are_recalled_and_new_ones_asked(tmp_path, points):
    problem = Counting()
    first = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    expected = first.evaluate(points, round_number=3)
    first.store.flush()
    assert problem.asked == 700 and first.ledger.recalled == 0

    second = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    assert same(second.evaluate(points), expected)
    checked = second.ledger.checked
    assert problem.asked == 700 + checked and 0 < checked < 20
    assert (second.ledger.evaluations, second.ledger.recalled) == (700, 700)
    mixed = torch.cat([points[:5], points[:5] + 1])
    found = second.evaluate(mixed)
    assert problem.asked == 705 + second.ledger.checked
    assert same(found, Target(build_problem("rosenbrock"), Y).evaluate(mixed))


def test_plain_xarray_opens_the_store(tmp_path, points):
    """Warnings are errors here: no argument is needed, and it has all rows whenever it grew."""
    for rows in (12, 20):
        store = EvaluationStore(tmp_path / "e.zarr", "t")
        Target(build_problem("rosenbrock"), Y, store=store).evaluate(points[:rows])
        store.flush()
        opened = xr.open_zarr(tmp_path / "e.zarr", chunks=None)
        np.testing.assert_array_equal(opened["x"], points[:rows])
        store.finish(np.arange(rows - 5))
        opened = xr.open_zarr(tmp_path / "e.zarr", chunks=None)
        assert opened["score"].dims == ("evaluation", "score_dim")
        assert opened.sizes["evaluation"] == rows and opened.sizes["asked"] == rows - 5


def test_another_target_starts_anew(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "one problem")
    Target(build_problem("rosenbrock"), Y, store=store).evaluate(points)
    store.flush()
    assert len(EvaluationStore(tmp_path / "e.zarr", "another problem")) == 0


def test_an_append_cut_short_is_forgotten(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    target = Target(build_problem("rosenbrock"), Y, store=store)
    expected = target.evaluate(points[:300])
    store.flush()
    count = (tmp_path / "e.zarr/zarr.json").read_bytes()
    target.evaluate(points[300:])
    store.flush()
    (tmp_path / "e.zarr/zarr.json").write_bytes(count)  # killed before the count was written

    problem = Counting()
    again = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    assert len(again.store) == 300
    assert same(again.evaluate(points[:300]), expected)
    assert problem.asked == again.ledger.checked
    again.evaluate(points)
    assert problem.asked == 400 + again.ledger.checked
    again.store.flush()
    assert len(EvaluationStore(tmp_path / "e.zarr", "target")) == 700


def test_slow_evaluations_are_on_disk_at_once(tmp_path, points, monkeypatch):
    monkeypatch.setattr(evaluations, "FLUSH_SECONDS", 0.0)
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    Target(build_problem("rosenbrock"), Y, store=store).evaluate(points[:64], round_number=7)
    reread = EvaluationStore(tmp_path / "e.zarr", "target")
    assert len(reread) == 64
    np.testing.assert_array_equal(reread.rows["round"], 7)


def test_a_damaged_store_costs_evaluations_and_nothing_else(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    expected = Target(build_problem("rosenbrock"), Y, store=store).evaluate(points)
    store.flush()
    (tmp_path / "e.zarr/score/zarr.json").unlink()
    assert same(
        Target(
            build_problem("rosenbrock"), Y, store=EvaluationStore(tmp_path / "e.zarr", "target")
        ).evaluate(points),
        expected,
    )


def remove(chunk):
    chunk.unlink()


def truncate(chunk):
    chunk.write_bytes(chunk.read_bytes()[:-7])


def flip_a_bit(chunk):
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))


def replace_by_the_next(chunk):
    folder = chunk.parent if chunk.parent.name != "0" else chunk.parents[1]
    other = next(
        file
        for file in folder.rglob("*")
        if file.is_file() and file.relative_to(folder).parts[0] == "1"
    )
    chunk.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [remove, truncate, flip_a_bit, replace_by_the_next])
@pytest.mark.parametrize("field", evaluations.FIELDS)
def test_damaged_rows_are_told_and_evaluated_again(tmp_path, points, capsys, field, damage):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    for start in range(0, 700, 50):  # values of `round` that differ from chunk to chunk
        Target(build_problem("rosenbrock"), Y, store=store).evaluate(
            points[start : start + 50], round_number=1 + start
        )
    store.flush()
    expected = Target(build_problem("rosenbrock"), Y).evaluate(points)
    chunk = next(
        file for file in sorted((tmp_path / "e.zarr" / field / "c").rglob("*")) if file.is_file()
    )
    damage(chunk)

    problem = Counting()
    again = Target(problem, Y, store=EvaluationStore(tmp_path / "e.zarr", "target"))
    printed = capsys.readouterr().err
    assert printed == (
        f"256 of 700 evaluations in {tmp_path / 'e.zarr'} are damaged: they are evaluated again\n"
    )
    assert same(again.evaluate(points), expected) and problem.asked == 256 + again.ledger.checked
    again.store.flush()
    assert len(EvaluationStore(tmp_path / "e.zarr", "target")) == 700
    assert not capsys.readouterr().err


def test_all_chunks_of_another_target_are_not_taken(tmp_path, points):
    for name, target in (("mine", "target"), ("other", "another target")):
        store = EvaluationStore(tmp_path / name, target)
        Target(
            build_problem("rosenbrock", noise_std=0.4 if name == "mine" else 0.8), Y, store=store
        ).evaluate(points)
        store.flush()
    (tmp_path / "other/zarr.json").write_bytes((tmp_path / "mine/zarr.json").read_bytes())
    assert len(EvaluationStore(tmp_path / "other", "target")) == 0


def test_a_damaged_run_is_not_reused(tmp_path, points):
    store = EvaluationStore(tmp_path / "e.zarr", "target")
    Target(build_problem("rosenbrock"), Y, store=store).evaluate(points)
    store.finish(np.arange(300))
    assert len(evaluations.finished_run(tmp_path / "e.zarr", "target")["x"]) == 300
    for field in ("run", "score"):
        chunk = next(
            f for f in sorted((tmp_path / "e.zarr" / field / "c").rglob("*")) if f.is_file()
        )
        content = chunk.read_bytes()
        chunk.unlink()
        with pytest.raises(PflowError, match="are damaged: delete the weights of that method"):
            evaluations.finished_run(tmp_path / "e.zarr", "target")
        chunk.write_bytes(content)
