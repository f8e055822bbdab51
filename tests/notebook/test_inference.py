"""`pflow.infer` makes what the pipeline makes, once; `pflow.load` and `pflow.pretrain` read and
share it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import pflow
from pflow.errors import PflowError
from pflow.execution.interruption import Interrupted
from pflow.notebook import running
from pflow.notebook.card import Card
from pflow.notebook.configuration import merged
from pflow.notebook.given import given_problem
from pflow.pipeline.out_of_date import compare
from pflow.pipeline.planned_jobs import planned_jobs
from pflow.pipeline.workflow import Pipeline
from tests.support.small import SMALL

MATRIX = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]])
NOISE = 1.0
Y = np.array([0.5, -0.3, 0.8])
BUDGET = 32

pytestmark = pytest.mark.slow


def linear(noise_std: float = NOISE, name: str = "linear"):
    return pflow.problem(MATRIX, ([0.0, 0.0], [1.0, 1.0]), noise_std, name=name)


def infer(y=Y, evaluations=BUDGET, problem=None, **options):
    settings = options.pop("settings", SMALL)
    return pflow.infer(problem or linear(), y, evaluations, settings=settings, **options)


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    """A folder with the results of one call."""
    folder = tmp_path_factory.mktemp("infer")
    with contextlib.chdir(folder):
        infer()
    return folder


@pytest.fixture
def made(once, monkeypatch) -> Path:
    """Those results, to look at: `results`."""
    monkeypatch.chdir(once)
    return Path("results")


@pytest.fixture
def copy(once, tmp_path, monkeypatch) -> Path:
    """A copy of them to change: `results`."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("results")


def stages_run(capsys) -> list[str]:
    """The stages that ran since the last look."""
    lines = capsys.readouterr().err.splitlines()
    begun = [line for line in lines if line.startswith("pflow: ") and not line.endswith(" s")]
    return [line.split()[1] for line in begun]


def pipeline_of(folder: Path, monkeypatch) -> Pipeline:
    monkeypatch.setenv("PFLOW_PLANNED_CODE", "{}")
    return Pipeline(yaml.safe_load((folder / "linear/configuration.yaml").read_text()), Path())


def test_importing_pflow_is_light():
    code = (
        "import sys, pflow; assert 'infer' in dir(pflow);"
        " print(*{'torch', 'xarray'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_the_weighted_mean_is_that_of_the_exact_posterior(made):
    result = pflow.load(made / "linear")
    precision = np.eye(2) + MATRIX.T @ MATRIX / NOISE**2
    exact = np.linalg.solve(precision, MATRIX.T @ Y / NOISE**2)
    mean = result.expectation()
    assert mean.attrs["weights"] == "importance"
    tolerance = 5 * np.sqrt(np.diag(np.linalg.inv(precision)) / mean.attrs["effective_sample_size"])
    assert (np.abs(mean.values - exact) < tolerance).all()
    np.testing.assert_allclose(result.expectation(lambda x: x[:, 0]), mean[0])
    assert result.draws["x"].shape == (1, 200, 2) and result.resample(50).shape == (50, 2)
    assert result.verdict in ("trustworthy", "usable with care", "do not use")
    assert result.verdict.reasons and str(result.verdict) in repr(result)
    with pytest.raises(PflowError, match="each of the 200 draws"):
        result.expectation(lambda x: x.sum())


def test_the_pipeline_takes_every_result_as_its_own(made, monkeypatch):
    """Nothing is out of date or without an origin, and only figures and report are left."""
    pipeline = pipeline_of(made, monkeypatch)
    comparison = compare(pipeline)
    assert not comparison.reasons and not comparison.unrecorded
    left = {job.stage for job in planned_jobs(pipeline) if job.result not in comparison.right}
    assert left == {"figures", "report"}


def test_a_second_call_makes_nothing(made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    infer()
    assert stages_run(capsys) == []
    after = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    assert {path for path in before if after[path] != before[path]} <= {made / ".hashes.json"}


def test_a_call_that_was_stopped_continues(copy, monkeypatch, capsys):
    for lost in ("posteriors", "pretrained/flow/calibration.json"):
        path = copy / "linear" / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_stage = running.run_stage

    def stopped(stage, *rest):
        if stage.name == "sample":
            raise Interrupted(signal.SIGINT, "the state is saved; run again")
        run_stage(stage, *rest)

    monkeypatch.setattr(running, "run_stage", stopped)
    with pytest.raises(KeyboardInterrupt, match="the state is saved"):
        infer()
    monkeypatch.setattr(running, "run_stage", run_stage)
    capsys.readouterr()
    assert infer().evaluations == BUDGET
    assert stages_run(capsys) == ["sample", "calibrate", "evaluate"]


def test_more_evaluations_repeat_none(copy):
    result = pflow.load(copy / "linear").more(8)
    facts = json.loads((result.folder / "flow.json").read_text())
    assert result.evaluations == BUDGET + 8
    assert facts["recalled_evaluations"] == BUDGET
    with pytest.raises(PflowError, match="method.evaluations 40 -> 32"):
        infer()
    with pytest.raises(PflowError, match=r"`evaluations` \(=0\) must be positive"):
        result.more(0)


def test_another_observation_shares_the_pretraining(copy, capsys):
    result = infer(y=Y + 0.1, observation="y2")
    assert stages_run(capsys) == ["observe", "finetune", "sample", "calibrate", "evaluate"]
    assert result.folder.parts[-3:] == ("y2", "auto", "seed-0")
    with pytest.raises(PflowError, match=r"holds 2 posteriors.*posteriors/y2/auto/seed-0"):
        pflow.load(copy / "linear")
    assert pflow.load(copy / "linear", observation="y").folder.parts[-3] == "y"


REFUSED = {
    "settings": ({"settings": merged(SMALL, {"simulate": {"train": 200}})}, "pairs 300 -> 200"),
    "problem": ({"problem": linear(noise_std=0.5)}, "code or the data of the problem differ"),
    "data": ({"y": Y + 1}, "`y` differs from the observation `y`"),
    "shape": ({"y": Y[:2]}, "`y` has the shape (2,), and one observation of this problem has (3,)"),
    "NaN": ({"y": [0.1, np.nan, 0.2]}, "the first at [1]"),
    "text": ({"y": ["a", "b", "c"]}, "must be an array of numbers"),
    "no budget": ({"evaluations": 0}, "`evaluations` (=0) must be positive"),
    "half an evaluation": ({"evaluations": 1.5}, "must be a whole number"),
    "setting": ({"settings": {"simulat": {}}}, "did you mean `simulate`?"),
    "observation": ({"observation": "a/b"}, "becomes a folder"),
    "class": ({"problem": dict}, "must be an object and is a class"),
    "name": ({"problem": "rosenbroc"}, "did you mean `rosenbrock`?"),
    "file": ({"problem": "nowhere.py"}, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_mistakes_and_other_settings_are_refused_in_one_line(made, options, words):
    before = (made / "linear/configuration.yaml").read_text()
    with pytest.raises(PflowError) as caught:
        infer(**options)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (made / "linear/configuration.yaml").read_text() == before


def test_a_prior_without_density_is_refused_before_anything_is_trained(tmp_path):
    problem = {"name": "seismic", "height": 16, "width": 16}
    y = np.zeros(given_problem(problem).problem.data_shape)
    with pytest.raises(PflowError, match="no formula for their density"):
        infer(y, problem=problem, folder=tmp_path)
    assert not any(tmp_path.iterdir())


def test_replace_makes_again_what_differs_and_nothing_else(copy, capsys):
    infer(settings=merged(SMALL, {"sample": {"draws": 250}}), replace=True)
    assert stages_run(capsys) == ["sample", "evaluate"]


def test_a_name_a_mapping_and_a_file_are_what_the_configuration_takes(tmp_path, monkeypatch):
    """Seen by their entry; that the stages take it is what the other tests see."""
    assert given_problem("rosenbrock").entry["name"] == "rosenbrock"
    assert given_problem({"name": "gaussian", "side": 4}).problem.model_shape == (16,)
    monkeypatch.chdir(tmp_path)
    text = "from pflow.problems import Rosenbrock\n\n\nclass MyProblem(Rosenbrock):\n    pass\n"
    Path("own_file.py").write_text(text.replace("Rosenbrock", "Bimodal", 0))
    with pytest.raises(PflowError, match=r"own_file.py:MyProblem"):
        given_problem("own_file.py")
    entry = given_problem("own_file.py:MyProblem").entry
    assert (entry["module"], entry["name"]) == ("own_file.py", "MyProblem")
    Path("own_file.py").write_text(text.replace("pass", "more = 1"))
    with pytest.raises(PflowError, match="restart Python"):
        given_problem("own_file.py:MyProblem")


def test_the_figures(made):
    result = pflow.load(made / "linear")
    assert list(result.plots()) == ["marginals", "pairs", "prediction"]
    assert result.plot("prediction").axes


def test_load_says_what_is_missing(made, tmp_path):
    with pytest.raises(PflowError, match="holds no posterior"):
        pflow.load(tmp_path)


# --- pretrained flows ---


@pytest.fixture(scope="module")
def shared(once) -> Path:
    """A pretrained flow in a folder of its own."""
    with contextlib.chdir(once):
        pflow.pretrain(linear(), settings=SMALL).save("shared")
    return once / "shared"


def test_a_shared_flow_is_a_start_without_training(shared, tmp_path, capsys):
    amortized = pflow.load_amortized(shared, linear())
    method = {"finetune": SMALL["finetune"], "sample": SMALL["sample"]}
    result = infer(folder=tmp_path, settings=method, amortized=amortized, name="other")
    assert "pretrain" not in stages_run(capsys)
    weights = "pretrained/flow/flow.safetensors"
    assert (tmp_path / "other" / weights).read_bytes() == (shared / "flow.safetensors").read_bytes()
    assert result.evaluations == BUDGET
    infer(folder=tmp_path, settings=method, amortized=amortized, name="other")
    assert stages_run(capsys) == []


def test_its_draws_and_its_posterior_with_weights(shared, tmp_path):
    amortized = pflow.load_amortized(shared, linear())
    draws = amortized.sample(Y, 300)
    assert draws.shape == (300, 2)
    np.testing.assert_array_equal(draws, amortized.sample(Y, 300))
    with pytest.warns(UserWarning, match="outside of the range of the training data"):
        amortized.sample(Y * 100, 1)
    with pytest.raises(PflowError, match="needs its problem"):
        pflow.load_amortized(shared).sample(Y)
    result = amortized.infer(Y, folder=tmp_path)
    assert result.folder.parts[-2] == "amortized" and result.evaluations == 0
    assert "log_weight" in result.posterior["sample_stats"] and result.verdict.reasons


def test_the_card_says_what_it_was_trained_on(shared):
    card = json.loads((shared / "card.json").read_text())
    assert (card["model_shape"], card["data_shape"]) == ([2], [3])
    assert card["training"]["pairs"] == SMALL["simulate"]["train"]
    assert {"pflow", "torch", "python"} <= card["software"].keys()
    assert card["training"]["x"]["low"][0] < -1 < 1 < card["training"]["x"]["high"][0]
    assert 0 <= card["calibration"]["sbc_p_value"] <= 1
    assert "300 low-fidelity pairs" in (shared / "README.md").read_text()


def test_another_problem_is_refused_or_only_a_start(shared):
    for other in (linear(noise_std=0.5), pflow.problem(2 * MATRIX, ([0, 0], [1, 1]), NOISE)):
        with pytest.raises(PflowError, match="the low-fidelity operator or the noise"):
            pflow.load_amortized(shared, other)
        with pytest.warns(UserWarning, match="used as a start only"):
            Card(shared).check(other)
    with pytest.raises(PflowError, match="the prior draws other models"):
        pflow.load_amortized(shared, pflow.problem(MATRIX, ([0, 0], [1, 2]), NOISE))
    with pytest.raises(PflowError, match=r"`model_shape` of the problem \(=\[1\]\)"):
        pflow.load_amortized(shared, pflow.problem(MATRIX[:, :1], ([0], [1]), NOISE))


def test_damage_is_found(shared, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(shared, folder)
    weights = bytearray((folder / "flow.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "flow.safetensors").write_bytes(weights)
    with pytest.raises(PflowError, match="was lost or changed"):
        pflow.load_amortized(folder)
    with pytest.raises(PflowError, match=r"holds no card\.json"):
        pflow.load_amortized(tmp_path)
    with pytest.raises(PflowError, match="must not exist yet"):
        pflow.load_amortized(shared).save(folder)


def test_threads_of_torch_are_as_before(made):
    before = torch.get_num_threads()
    infer(threads=2)
    assert torch.get_num_threads() == before
