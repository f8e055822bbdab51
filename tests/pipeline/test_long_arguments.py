"""Settings and lists of files of any length reach their job: Linux takes 128 kB as one argument."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from pflow.errors import PflowError
from pflow.pipeline.long_arguments import (
    expanded,
    files_argument,
    settings_argument,
    settings_text,
)
from pflow.pipeline.stages import STAGES
from tests.support.project import ROOT, TINY, Project

SHORT, LONG = '{"a": 1}', json.dumps({"notes": ["text " * 30_000]})
FILES = [f"results/tiny/observations/y{k}.zarr/zarr.json" for k in range(1500)]


def test_short_settings_are_the_argument_and_long_ones_a_file(tmp_path):
    assert settings_argument(SHORT, tmp_path) == SHORT and list(tmp_path.iterdir()) == []
    for text in (LONG, json.dumps({"notes": ["'" * 20_000]})):  # a shell needs 5 letters for a '
        given = settings_argument(text, tmp_path)
        assert len(given) < 200 and settings_text(given) == text
        assert settings_argument(text, tmp_path) == given


def test_a_long_list_of_files_is_a_file(tmp_path):
    assert files_argument(FILES[:10], tmp_path) == FILES[:10]
    [given] = files_argument(FILES, tmp_path)
    assert expanded([Path(given)], "--observations") == list(map(Path, FILES))
    assert expanded([Path(FILES[0])], "--observations") == [Path(FILES[0])]


def test_a_file_that_was_changed_since_is_refused_and_planned_anew(tmp_path):
    given = settings_argument(LONG, tmp_path)
    Path(given).write_text(SHORT)
    with pytest.raises(PflowError, match=r"was changed after this job was planned: run snakemake"):
        settings_text(given)
    assert settings_text(settings_argument(LONG, tmp_path)) == LONG


def test_settings_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "random.json").write_bytes(b"\xff\xfe\x9c")
    for given in ("[" * 100_000, str(tmp_path / "random.json"), str(tmp_path)):
        with pytest.raises(PflowError, match="--settings"):
            settings_text(given)


def test_every_list_of_files_that_grows_reaches_its_job_as_a_list_of_any_length():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    grows = {"train-shards", "validation-shards", "observations", "flows"}
    declared = {a.name for stage in STAGES.values() for a in stage.arguments if a.kind == "inputs"}
    assert declared - grows == {"test-shards"}  # of which the calibration takes the first alone
    for name in grows:
        given = re.findall(rf"--{name} {{(\w+)\.(\w+):q}}", rules)
        assert given and all(
            kind == "params" and f'{word}=pipeline.listed("{word}")' in rules
            for kind, word in given
            if (kind, word) != ("input", "train")
        )
    # the calibration takes the first training shard alone
    assert rules.count("--train-shards {input.train:q}") == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_pretraining_on_1500_shards_starts(tmp_path):
    """Only Snakemake can tell whether its command is too long; the shards that stand there are
    empty, which the job says.
    """
    configuration = copy.deepcopy(TINY)
    tiny = configuration["experiments"]["tiny"]
    tiny["simulate"] |= {"train": 1500, "shard_size": 1}
    project = Project(tmp_path / "a-project-folder", configuration)
    folder = project.folder / "results/tiny"
    shards = {"train": 1500, "validation": 100}
    read = [f"pairs/{split}/shard-{k}.zarr" for split in shards for k in range(shards[split])]
    for file in [*(f"{store}/zarr.json" for store in read), "operator.json"]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")
    target = "results/tiny/pretrained/coupling/flow.safetensors"
    done = project.snakemake(target, "--allowed-rules", "pretrain_flow")
    log = (folder / "logs/pretrain/coupling.log").read_text()
    assert "shard-0.zarr" in log.splitlines()[-1] and "error: " in log.splitlines()[-1], done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_jobs_over_1500_observations_run(tmp_path):
    """The report, whose settings are long, and the calibration, which is given every observation;
    all that they read stands there already, so that nothing else is planned.
    """
    configuration = copy.deepcopy(TINY)
    tiny = configuration["experiments"]["tiny"]
    tiny["observations"] = {f"well-{k:04}-of-the-north": {"seed": k} for k in range(1500)}
    tiny["finetune"] = {"amortized": {"flow": "coupling", "objective": "none"}}
    tiny["flows"] = {"coupling": tiny["flows"]["coupling"]}
    tiny["resources"] = {"observations_per_job": 1}  # every observation is an input by itself
    project = Project(tmp_path / "project", configuration)
    folder = project.folder / "results/tiny"
    read = [
        "figures/index.json",
        "operator.json",
        "pretrained/coupling/flow.safetensors",
        *(f"pairs/{split}/shard-0.zarr/zarr.json" for split in ("train", "test")),
        *(f"observations/{name}.zarr/zarr.json" for name in tiny["observations"]),
        *(f"posteriors/{name}/amortized/seed-0/metrics.json" for name in tiny["observations"]),
    ]
    for file in read:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text('{"captions": {}}')
    targets = ["results/report.html", "results/tiny/pretrained/coupling/calibration.json"]
    done = project.snakemake(
        *targets, "--keep-going", "--allowed-rules", "write_report", "calibrate_flow"
    )
    page = (project.folder / targets[0]).read_text()
    assert all(name in page for name in tiny["observations"]), done.stdout
    log = (folder / "logs/calibrate/coupling.log").read_text()
    assert "flow.safetensors" in log.splitlines()[-1] and "error: " in log.splitlines()[-1], log
