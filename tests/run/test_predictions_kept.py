"""What a finished run keeps to be found again: predictions of every test item, its manifest, its config."""

import json

import pytest
from etils import epath
from support import item_runs, small_run

from selw2s_jax import config as config_lib
from selw2s_jax.report import kept, origins
from selw2s_jax.run import forms, manifests, pipeline
from selw2s_jax.runtime import started


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_run.workdir(tmp_path_factory.getbasetemp())


def test_every_accuracy_is_that_of_the_predictions(finished):
    found = item_runs.assert_results_are_theirs(finished)
    assert list(found) == [("sciq", name, 0) for name in ("weak", "ceiling", "selective")]
    rows = item_runs.read(finished)
    assert len({row["example_id"] for row in rows}) == 33 and all(row["text"] for row in rows)


def test_a_manifest_says_how_the_run_was_started_and_what_each_stage_needs(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    results = json.loads((finished / "results.json").read_text())
    assert manifest["schema_version"] == results["schema_version"] == manifests.SCHEMA_VERSION
    assert manifest["started"]["date"].endswith("+00:00") and manifest["started"]["command"] is None
    # Equal runs have equal results.
    assert results["manifest"] == {key: value for key, value in manifest.items() if key != "started"}
    stages = {stage["key"]: stage for stage in manifest["stages"]}
    labels = {stage["label"]: [stages[key]["label"] for key in stage["needs"]] for stage in stages.values()}
    assert labels["evaluation of selective, seed 0"] == ["selective, seed 0"]
    assert labels["weak labels, seed 0"] == ["weak, seed 0"] and labels["weak, seed 0"] == []


def test_origins_of_a_number_are_all_that_it_needs(finished):
    lines = origins.text(kept.read(finished), origins.parse("sciq,selective,0")).splitlines()
    kinds = [line.split()[0] for line in lines[1:]]
    assert sorted(kinds) == sorted(
        ["number"] * 2 + ["predictions", "train"] * 2 + ["log"] * 2 + ["answers"] * 2
    )
    assert all("missing" not in line for line in lines)


def test_a_saved_config_has_the_stages_of_the_run(finished):
    config = config_lib.normalize(config_lib.read_saved(str(finished / "config.json")))
    assert config_lib.to_json(config) == config_lib.to_json(config_lib.normalize(small_run.make_config()))
    form = forms.get(config)
    experiment = form.experiment(config, form.prepare(config, epath.Path(finished)))
    keys = {stage.key for of_model in experiment.targets() for stage in of_model}
    known = {stage["key"] for stage in json.loads((finished / "manifest.json").read_text())["stages"]}
    assert keys and keys <= known


def test_the_copy_of_a_config_file_is_kept_while_the_config_is_the_same(tmp_path):
    workdir, copy = epath.Path(tmp_path), tmp_path / "config.py"
    config = config_lib.normalize(small_run.make_config())
    by_command = started.Start("python -m selw2s_jax.main", "config.py", "# mine")
    for start, gamma, is_there in (
        (by_command, 0.5, True), (started.Start(), 0.5, True), (started.Start(), 0.75, False),
        (started.Start(), 0.75, False), (by_command, 0.75, True),
    ):  # fmt: skip
        config.p_ik.gamma = gamma
        pipeline._write_config(config, workdir, start)
        assert copy.exists() == is_there
        assert config_lib.read_saved(str(tmp_path / "config.json")).p_ik.gamma == gamma
