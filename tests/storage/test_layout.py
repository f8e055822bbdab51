"""Paths of the results folder, and their inverses."""

from __future__ import annotations

from pathlib import Path

from pflow.storage.layout import Layout, MethodFolder, root_file, whole

EXPERIMENT = Layout(Path("results")).experiment("line")


def test_names_may_be_wildcards():
    path = (
        Layout(Path("results"))
        .experiment("{experiment}")
        .run("{observation}", "{method}", "{seed}")
    )
    assert str(root_file(path.posterior)) == (
        "results/{experiment}/posteriors/{observation}/{method}/seed-{seed}/posterior.zarr/zarr.json"
    )


def test_no_two_files_of_an_experiment_have_one_path():
    flow, run = EXPERIMENT.pretrained("a"), EXPERIMENT.run("y", "a", 0)
    paths = [
        EXPERIMENT.operator,
        EXPERIMENT.spectrum,
        EXPERIMENT.figure_index,
        EXPERIMENT.observation("y"),
        EXPERIMENT.reference("y"),
        EXPERIMENT.method_calibration("a"),
        EXPERIMENT.shard("train", 0),
        EXPERIMENT.shard("test", 0),
        *(flow.weights, flow.about, flow.history, flow.calibration, flow.ranks),
        *(run.weights, run.about, run.history, run.posterior, run.metrics),
        EXPERIMENT.pretraining_checkpoint("a").state,
        EXPERIMENT.run_checkpoint("y", "a", 0).state,
        EXPERIMENT.run_checkpoint("y", "a", 0).evaluations,
        EXPERIMENT.run_log("sample", "y", "a", 0),
        EXPERIMENT.run_benchmark("sample", "y", "a", 0),
    ]
    assert len(set(paths)) == len(paths)


def test_a_root_file_belongs_to_its_store():
    store = EXPERIMENT.reference("y")
    assert whole(root_file(store)) == store == whole(store)


def test_another_method_has_the_same_observation_and_seed():
    first, second = (EXPERIMENT.run_checkpoint("y", method, 3) for method in ("first", "second"))
    assert second.of_method("first") == first


def test_seeds_are_in_the_order_of_numbers_and_only_sampled_ones_count(tmp_path):
    method = MethodFolder(tmp_path)
    for seed in (10, 2):
        file = root_file(method.run(seed).posterior)
        file.parent.mkdir(parents=True)
        file.touch()
    method.run(3).folder.mkdir()
    assert [run.seed for run in method.sampled()] == [2, 10]


def test_results_whose_end_was_not_seen_are_found(tmp_path):
    layout = Layout(tmp_path)
    kept = [
        layout.experiment("line").pretraining_checkpoint("a").finished,
        layout.experiment("other").run_checkpoint("y", "a", 0).finished,
    ]
    for folder in kept:
        folder.mkdir(parents=True)
    layout.experiment("line").run("y", "finished", 0).folder.mkdir(parents=True)
    for names in (("y", "finished", 1), ("finished", "a", 1), ("pretrained", "finished", 1)):
        layout.experiment("line").run_checkpoint(*names).evaluations.mkdir(parents=True)
    layout.experiment("line").pretraining_checkpoint("b").folder.mkdir(parents=True)
    assert sorted(layout.finished()) == sorted(kept)
