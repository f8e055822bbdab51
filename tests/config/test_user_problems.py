"""A user's class is configured like ours: its arguments are the settings, every mistake is named,
and its code counts.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from pflow.config.decoding import decode
from pflow.config.jobs import SimulateJobSettings
from pflow.config.loading import load_configuration
from pflow.config.problems import ProblemSettings
from pflow.config.schema import schema
from pflow.errors import PflowError
from pflow.pipeline.stages import settings_for

MODULE = '''"""A user's file."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import torch_is_never_imported_here
from helpers import constant
from pflow.config.decoding import setting
from pflow.problems import Problem

SIZE = 3


class Base(Problem):
    def __init__(self, inherited: float, other: int = 2):
        pass


class Mine(Problem):
    def __init__(
        self,
        noise_std: Annotated[float, setting("Noise.", above=0)] = 0.1,
        kind: Literal["a", "b"] = "a",
        size: int = SIZE,
        table: Path | None = None,
        scales: list[float] = (1.0, 2.0),
        bare=4,
        *,
        maybe: Optional[int] = None,
    ):
        pass


class Heir(Base):
    pass


class Plain(Problem):
    def forward(self):
        pass


def factory(depth: "float" = 1.5):
    return None


class Greedy(Problem):
    def __init__(self, **settings):
        pass


class Odd(Problem):
    def __init__(self, operator: dict):
        pass


class Taken(Problem):
    def __init__(self, name: str):
        pass
'''

EXPERIMENT = {
    "problem": {"module": "mine.py", "name": "Mine"},
    "observations": {"y1": {"seed": 1}},
    "flows": {"c": {"name": "coupling"}},
    "finetune": {"a": {"flow": "c", "objective": "none"}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "helpers.py").write_text("constant = 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problem(**settings):
    return decode(ProblemSettings, {"module": "mine.py", "name": "Mine", **settings}, "problem")


def configured(**changes) -> dict:
    return {"experiments": {"t": {**copy.deepcopy(EXPERIMENT), **changes}}}


def test_settings_are_the_arguments_and_defaults_stay_in_the_code(folder):
    assert problem().settings == {
        "noise_std": 0.1,
        "kind": "a",
        "table": None,
        "scales": (1.0, 2.0),
        "bare": 4,
        "maybe": None,
    }  # size: SIZE is not known here
    given = problem(size="5", noise_std="1e-2").settings
    assert (given["size"], given["noise_std"]) == (5, 0.01)
    assert problem(name="Heir", inherited=1).settings == {"inherited": 1.0, "other": 2}
    assert problem(name="factory").settings == {"depth": 1.5}
    assert problem(name="Plain").settings == {}
    assert problem().model_shape is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"noise_sdt": 1}, "`problem.noise_sdt` is not a setting: did you mean `noise_std`?"),
        ({"noise_std": -1}, "`noise_std` (=-1.0) must be positive: set problem.noise_std"),
        ({"noise_std": "much"}, "`problem.noise_std` (='much') must be a number"),
        ({"kind": "c"}, "`problem.kind` (='c') must be one of a, b"),
        ({"table": "none.npy"}, "`problem.table` (='none.npy') is not there"),
        (
            {"name": "Mind"},
            (
                "`problem.name` (='Mind') must be a class or a function of mine.py: did you mean"
                " `Mine`?"
            ),
        ),
        ({"name": None}, "`problem.name` (=None) must be text"),
        ({"module": "yours.py"}, "`problem.module` (='yours.py') is not there"),
        ({"name": "Heir"}, "`problem.inherited` is missing"),
        ({"name": "Greedy"}, "`Greedy` must name its settings one by one"),
        (
            {"name": "Odd"},
            "the setting `operator` has the type `dict`, which a configuration cannot hold",
        ),
        ({"name": "Taken"}, "`name` is taken in a configuration"),
    ],
)
def test_mistakes_are_named_without_importing_the_file(folder, settings, expected):
    with pytest.raises(PflowError) as error:
        problem(**settings)
    assert expected in str(error.value)


def test_a_file_that_is_not_python_is_located(folder):
    (folder / "mine.py").write_text("class Mine:\n  def (")
    with pytest.raises(PflowError, match=r"mine\.py, line 2: not valid Python"):
        problem()


def test_a_mistake_does_not_hide_the_others(folder):
    with pytest.raises(PflowError) as error:
        load_configuration(configured(problem={"module": "mine.py", "name": "Mind"}, seeds="three"))
    assert len(str(error.value).splitlines()) == 2


def edited(folder: Path, file: str, change) -> bool:
    before = problem().code
    path = folder / file
    path.write_text(change(path.read_text()))
    return problem().code != before


def test_the_fingerprint_follows_the_file_and_what_it_reaches_beside_it(folder):
    assert not edited(
        folder,
        "mine.py",
        lambda text: (
            text.replace('"""A user\'s file."""', '"""Another wording."""') + "\n# a remark\n"
        ),
    )
    assert not edited(folder, "helpers.py", lambda text: "# a remark\n" + text)
    assert edited(folder, "mine.py", lambda text: text.replace("SIZE = 3", "SIZE = 4"))
    assert edited(folder, "helpers.py", lambda text: "from package.deep import far\n" + text)
    (folder / "package").mkdir()
    (folder / "package/__init__.py").write_text("")
    before = problem().code
    (folder / "package/deep.py").write_text("from .near import far\n")
    (folder / "package/near.py").write_text("far = 1\n")
    assert problem().code != before
    assert edited(folder, "package/near.py", lambda text: "far = 2\n")
    (folder / "unrelated.py").write_text("x = 1\n")
    assert not edited(folder, "unrelated.py", lambda text: "x = 2\n")


def test_the_content_of_a_file_among_the_settings_counts(folder):
    (folder / "table.csv").write_text("1")
    before = problem(table="table.csv").code
    (folder / "table.csv").write_text("2")
    assert problem(table="table.csv").code != before


def test_a_job_planned_for_other_code_stops(folder):
    text = settings_for(load_configuration(configured()), "simulate", "t", split="train", shard="0")
    assert decode(SimulateJobSettings, json.loads(text), "").problem.settings["noise_std"] == 0.1
    (folder / "helpers.py").write_text("constant = 2\n")
    with pytest.raises(PflowError, match="was changed after this job was planned"):
        decode(SimulateJobSettings, json.loads(text), "")


def test_neither_the_module_nor_a_heavy_library_is_imported_to_plan(folder):
    code = (
        "import json, sys; from pflow.config.loading import load_configuration;"
        " load_configuration(json.loads(sys.argv[1])); print([m for m in ('torch', 'xarray',"
        " 'zarr', 'mine', 'helpers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(configured())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_schema_lets_a_class_have_its_own_settings():
    jsonschema.validate(
        configured(problem={"module": "mine.py", "name": "Mine", "size": 5}), schema()
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(configured(problem={"name": "rosenbrock", "size": 5}), schema())
