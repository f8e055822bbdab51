"""The folder of results: names that would be taken for something else are refused in one line."""

from __future__ import annotations

import copy

import pytest

from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from tests.support.project import TINY


def results_of(folder: str) -> str:
    return load_configuration({**copy.deepcopy(TINY), "results": folder}).results


@pytest.mark.parametrize(
    "folder", ["", " ", "/", "//", "a{b}c", "-x", "a\nb", " a", "~no-such-user/x"]
)
def test_a_folder_that_cannot_be_used_is_refused(folder):
    with pytest.raises(PflowError, match="`results` \\(=") as caught:
        results_of(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "folder", ["results", "my results", "res;touch x;#", "it's $(touch x) \u00fc", "/tmp/a", "../a"]
)
def test_other_names_stay_as_they_are(folder):
    assert results_of(folder) == folder


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert results_of("~/x") == "/home/somebody/x"
