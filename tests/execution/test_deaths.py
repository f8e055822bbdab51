"""A task in which a process died comes last, until it has been done."""

from __future__ import annotations

import pytest

from pflow.execution.deaths import Deaths


def test_tasks_in_which_processes_died_come_last(tmp_path):
    file = tmp_path / "died"
    assert Deaths(file).last("abc") == ["a", "b", "c"]
    endless = [Deaths(file).within("b")]  # of two processes that die, their contexts do not end
    endless[0].__enter__()
    endless.append(Deaths(file).within("a"))
    endless[1].__enter__()
    deaths = Deaths(file)
    assert deaths.last("abcd") == ["c", "d", "a", "b"]
    with deaths.within("a"):
        pass
    assert Deaths(file).last("abcd") == ["a", "c", "d", "b"]
    with deaths.within("b"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_raises_has_not_died(tmp_path):
    with pytest.raises(KeyError), Deaths(tmp_path / "died").within("a"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
