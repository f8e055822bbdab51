"""A job records what it read and wrote."""

from __future__ import annotations

from pathlib import Path

from pflow.execution.origin import input_states, record_origin
from pflow.pipeline.stages import STAGES
from pflow.storage.origins import InputState, file_hash, file_state, read_origin


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_inputs_are_named_from_the_result_and_know_their_job(tmp_path):
    data = written(tmp_path / "data.npy", "1")
    shard = written(tmp_path / "pairs/shard-0.zarr/zarr.json", "{}")
    record_origin("simulate", "{}", "code", input_states(shard, [], [str(data)]), [shard])
    about = written(tmp_path / "old/flow.json", "{}")  # of before there were origins
    metrics = tmp_path / "run/metrics.json"
    made_by = read_origin(shard).job
    assert read_origin(shard).inputs == {str(data): InputState(file_hash(data), "")}
    assert input_states(metrics, [shard, about], []) == {
        "../pairs/shard-0.zarr/zarr.json": InputState(file_hash(shard), made_by),
        "../old/flow.json": InputState(file_hash(about), ""),
    }


def test_a_folder_stands_for_the_results_in_it_but_the_own_ones(tmp_path):
    metrics = written(tmp_path / "run/metrics.json", "{}")
    record_origin("evaluate", "{}", "code", {}, [metrics])
    index = written(tmp_path / "figures/index.json", "{}")
    picture = written(tmp_path / "figures/a.png", "a")
    record_origin("figures", "{}", "code", input_states(index, [tmp_path], []), [index, picture])
    origin = read_origin(index)
    assert origin.inputs.keys() == {"../run/metrics.json"}
    assert origin.outputs == {"index.json": file_state(index), "a.png": file_state(picture)}
    assert input_states(index, [tmp_path], []).keys() == {"../run/metrics.json"}


def test_a_store_may_be_named_by_its_folder_or_its_root():
    for out in (Path("a/x.zarr"), Path("a/x.zarr/zarr.json")):
        assert STAGES["sample"].outputs(out) == [Path("a/x.zarr/zarr.json")]


def test_data_that_are_not_there_are_left_to_the_stage(tmp_path):
    assert input_states(tmp_path / "out.json", [], [str(tmp_path / "gone.npy")]) == {}
