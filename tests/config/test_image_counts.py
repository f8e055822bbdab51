"""Planning knows how many images a user's file gives, and names every setting that asks for
more.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import zarr

from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.storage.image_patches import ImagePatches

# Images of 8 x 8 at rows 0 to 24 begin at 17 depths. The 80 traces for training, of which the first
# is dead, hold 72 side by side, and the 10 for validation and for tests 3 each.
TRAIN, VALIDATION, TEST = 1224, 51, 51


@pytest.fixture
def configuration(tmp_path):
    section = np.random.default_rng(0).standard_normal((40, 100)).astype("f4")
    section[:, 0] = 0.0
    np.save(tmp_path / "section.npy", section)
    return {
        "experiments": {
            "line": {
                "problem": {
                    "name": "seismic",
                    "height": 8,
                    "width": 8,
                    "images": str(tmp_path / "section.npy"),
                    "training_rows": [0, 24],
                    "target_rows": [28, 40],
                    "stride": 1,
                },
                "simulate": {"train": TRAIN, "validation": VALIDATION, "test": TEST},
                "observations": {"deep": {"seed": 1}},
                "flows": {"coupling": {"name": "coupling", "pretrain": {"batch": 8}}},
                "finetune": {"amortized": {"flow": "coupling", "objective": "none"}},
                "reference": {"kind": "none"},
            }
        }
    }


def mistakes(configuration, **changes) -> list[str]:
    changed = copy.deepcopy(configuration)
    experiment = changed["experiments"]["line"]
    for key, value in changes.items():
        experiment["problem" if key in experiment["problem"] else "simulate"][key] = value
    try:
        load_configuration(changed)
    except PflowError as error:
        return str(error).splitlines()
    return []


def test_as_many_as_there_are_may_be_asked_for(configuration):
    assert mistakes(configuration) == []


def test_every_setting_that_asks_for_more_is_named(configuration):
    found = mistakes(configuration, train=TRAIN + 1, test=TEST + 1, high_fidelity=TEST + 5)
    assert [line.split("`")[1].rpartition(".")[2] for line in found] == [
        "train",
        "test",
        "high_fidelity",
    ]
    assert "(=1225) draws 1225 different train images in one job" in found[0]
    assert "has 1224 of 8 x 8 at `experiments.line.problem.training_rows` (=[0, 24])" in found[0]


def test_each_job_draws_its_own(configuration):
    assert mistakes(configuration, train=2 * TRAIN, shard_size=TRAIN) == []


def test_the_true_models_need_one_image(configuration):
    (line,) = mistakes(configuration, target_rows=[36, 40])
    assert "rows 36 to 40 of" in line and "hold an image of 8 rows" in line
    path = configuration["experiments"]["line"]["problem"]["images"]
    blank = np.load(path)
    blank[28:, 90:] = 0.0
    np.save(path, blank)
    (line,) = mistakes(configuration)
    assert "`experiments.line.observations.deep` (=1)" in line


def test_rows_that_are_missing_are_named(configuration):
    (line,) = mistakes(configuration, training_rows=None)
    assert "`experiments.line.problem.training_rows` (=None) must say the depths" in line


def test_a_damaged_file_is_told_in_planning(configuration, tmp_path):
    (tmp_path / "broken.sgy").write_bytes(b"no")
    pytest.importorskip("segyio")
    (line,) = mistakes(configuration, images=str(tmp_path / "broken.sgy"))
    assert "cannot be read as SEG-Y" in line


def test_a_file_that_another_rule_makes_is_left_to_its_jobs(configuration, tmp_path):
    assert mistakes(configuration, images=str(tmp_path / "later.npy")) == []


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Every file, whenever its images are counted."""
    files: list[str] = []
    original = ImagePatches.__init__

    def init(self, path, *settings) -> None:
        files.append(path)
        original(self, path, *settings)

    monkeypatch.setattr(ImagePatches, "__init__", init)
    return files


def test_a_file_is_counted_once_until_it_changes(configuration, opened):
    path = configuration["experiments"]["line"]["problem"]["images"]
    assert [mistakes(configuration) for _ in range(3)] == [[], [], []]
    assert len(opened) == 1
    assert mistakes(configuration, test=TEST + 1)
    assert len(opened) == 2
    np.save(path, np.load(path)[:, :90])
    assert len(mistakes(configuration)) == 3  # train, validation and tests have fewer traces
    assert len(opened) == 3


def test_an_edit_inside_a_zarr_store_is_seen(configuration, tmp_path):
    section = np.load(configuration["experiments"]["line"]["problem"]["images"])
    store = zarr.create_array(tmp_path / "section.zarr", data=section)
    assert mistakes(configuration, images=str(tmp_path / "section.zarr")) == []
    store[28:, 90:] = 0.0
    (line,) = mistakes(configuration, images=str(tmp_path / "section.zarr"))
    assert "draws 1 different test images" in line


def test_a_job_leaves_the_count_to_its_plan(configuration, opened):
    configuration["experiments"]["line"]["simulate"]["train"] = TRAIN + 1
    load_configuration(configuration, planned=True)
    assert opened == []
