"""Replay of whole runs: at the run's own setting the labels that it trained on, others as the rules have them."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from support import commands, small_run, tiny_config

from selw2s_jax.errors import UserError
from selw2s_jax.replay import __main__ as replay_command
from selw2s_jax.replay import finished, results, settings
from selw2s_jax.run import pipeline


def test_the_command_replays_a_run(tmp_path_factory, tmp_path, capsys):
    workdir = small_run.workdir(tmp_path_factory.getbasetemp())
    replay_command.main([f"--workdir={workdir}", "--gamma=0,0.45", "--alpha=0.5", f"--output={tmp_path}/out"])
    shown = capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert "random_selection" not in shown and "run's" in shown and not content["notes"]
    rows = {(row["gamma"], row["alpha"]): row for row in content["mean"]}
    assert sorted(rows) == [(gamma, alpha) for gamma in (0, 0.45, 0.5) for alpha in (0.5, 0.9)]
    own = rows[0.5, 0.9]
    assert own["is_own"] and own["changed"] == own["undecided"] == 0 and own["exact"] == 1
    diagnosis = json.loads((workdir / "results.json").read_text())["disagreement"][0]
    assert own["right"] == pytest.approx(diagnosis["all"]["target_right"])
    assert own["brier"] == pytest.approx(diagnosis["all"]["target_brier"], abs=1e-6)
    assert rows[0, 0.5]["chosen"] == 1 and rows[0, 0.5]["right_at_random"] == rows[0, 0.5]["right"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".json", ".png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tau=0.3",), "no other tau can be replayed"),
        (("--methods=finetune",), "--methods=finetune is not there: the run has selective"),
        (("--gamma=2",), "--gamma=2 must be numbers from 0 to 1"),
        (("--run=a",), "--run=a is not there"),
    ],
)
def test_what_cannot_be_replayed_is_said(tmp_path_factory, tmp_path, arguments, words):
    workdir = small_run.workdir(tmp_path_factory.getbasetemp())
    if "tau" in words:  # beside the run's own there is nothing
        (run,) = finished.read(workdir)
        chosen = settings.grid(settings.Setting.of_run(run.config), {"tau": (0.3,)})
        assert words in results.find(run, chosen).notes[0]
        return
    called = commands.call(replay_command.main, f"--workdir={workdir}", *arguments, cwd=tmp_path)
    commands.assert_refused(called, words)


METHODS = (
    "finetune", "selective", "selective_without_ik", "selective_without_gs", "random_selection", "selective_frozen",
    "random_selection_frozen", "selective_by_confidence", "random_selection_by_confidence", "posterior",
    "posterior_shuffled", "posterior_constant", "posterior_online", "posterior_online_shuffled",
)  # fmt: skip


def make_config(**changes):
    """Probes, as they are quick; odd sizes, two seeds."""
    defaults = {
        "strong__model": "random-tiny-gpt2",
        "methods": METHODS,
        "strong__trained": "heads",
        "weak__trained": "heads",
        "training__learning_rate": 3e-2,
        "training__epochs": 1.6,
        "data__num_train": 66,
        "p_ik__num_test": 41,
        "p_ik__epochs": 8.0,
        "p_ik__gamma": 0.4,
        "calibration__folds": 2,
        "seeds": (0, 3),
    }
    return tiny_config.make_config(**defaults | changes)


@pytest.fixture(scope="module", params=["batch", "set"])
def of_probes(request, tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("replay") / request.param
    pipeline.run(make_config(graph__over=request.param), workdir)
    return workdir


@pytest.mark.slow
def test_every_method_is_replayed_as_it_was(of_probes):
    (run,) = finished.read(of_probes)
    own, seen = settings.Setting.of_run(run.config), 0
    for name in METHODS[1:]:
        for seed in run.config.seeds:
            trace, again = run.student(name, seed).trace, run.replay(name, seed, own)
            np.testing.assert_array_equal(again.ik_mask, trace["ik_mask"], err_msg=name)
            np.testing.assert_allclose(again.prior, trace["prior"], rtol=0, atol=2e-6, err_msg=name)
            np.testing.assert_allclose(again.target, trace["target"], rtol=0, atol=2e-6, err_msg=name)
            seen += len(again.target)
    assert seen == 13 * 2 * 48


@pytest.mark.slow
def test_frozen_methods_are_replayed_as_a_run_of_that_setting_trains(of_probes, tmp_path):
    """Whose labels are a function of no model in training, but for who smooths whom."""
    over = of_probes.name
    shutil.copytree(of_probes, tmp_path / "run")
    changed = {"p_ik__gamma": 0.55, "graph__alpha": 0.6, "graph__tau": 0.4, "graph__over": over}
    (run,) = finished.read(of_probes)
    setting = settings.Setting(gamma=0.55, alpha=0.6, tau=0.4)
    pipeline.run(make_config(**changed), tmp_path / "run")
    (other,) = finished.read(tmp_path / "run")
    for name in ("selective_frozen", "random_selection_frozen", "selective_by_confidence", "posterior"):
        for seed in run.config.seeds:
            row, expected = run.rows(name, seed, setting), other.student(name, seed)
            for field in ("ik_mask", "target"):
                values = finished.last_seen(expected, expected.trace[field])
                np.testing.assert_allclose(getattr(row, field), values, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_stages_that_are_gone_are_named(of_probes, tmp_path):
    shutil.copytree(of_probes, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "artifacts" / "calibration")
    (run,) = finished.read(tmp_path / "run")
    with pytest.raises(UserError, match="calibration, seed 0 is not there"):
        run.student("posterior", 0)
    chosen = [settings.Setting.of_run(run.config)]
    found = results.find(run, chosen)
    assert {row["method"] for row in found.rows} == set(METHODS[1:7])
    assert len(found.notes) == 2 * 7
