"""Registrations: written once and before students, and what a run's manifest keeps of the one that it met."""

import hashlib
import json

import pytest
from etils import epath
from support import commands, registered_runs, store_edits, tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.analysis import methods
from selw2s_jax.errors import UserError
from selw2s_jax.preregister import __main__ as preregister_command
from selw2s_jax.run import pipeline, registrations, schedule
from selw2s_jax.runtime import artifacts

KNOWN = {
    name: methods.facts(name) for name in ("weak", "finetune", "selective", "random_selection", "ceiling")
}
CONFIG = {"task": "sciq", "graph": {"tau": 0.1}, "seeds": [0, 1]}


@pytest.fixture
def workdir(tmp_path) -> epath.Path:
    return epath.Path(tmp_path)


def add_training(workdir, label):
    def write(folder):
        (folder / "summary.json").write_text(json.dumps({"label": label}))

    store_edits.make(artifacts.Store(workdir), "train", {"label": label}, write)


def of_run(workdir, config=CONFIG, source=registered_runs.CODE["source"]):
    """The entry of a run that starts, in its manifest from then on."""
    entry = registrations.of_run(workdir, config, source)
    (workdir / "manifest.json").write_text(json.dumps({} if entry is None else {"registration": entry}))
    return entry


def test_what_is_compared_unless_it_is_said():
    def pairs(*names):
        return methods.default_pairs({name: methods.facts(name) for name in names})

    assert pairs(*KNOWN) == [("selective", "random_selection")]
    assert pairs("weak", "finetune", "posterior", "posterior_shuffled", "selective", "self_training") == [
        ("selective", "self_training"),
        ("posterior", "posterior_shuffled"),
    ]
    assert pairs("finetune", "selective", "posterior_shuffled") == [("selective", "finetune")]
    assert pairs("weak", "finetune", "confidence", "product") == [
        ("confidence", "finetune"),
        ("product", "finetune"),
    ]
    assert pairs("weak", "finetune", "ceiling") == [("finetune", "weak")] and pairs("weak", "ceiling") == []
    own = {
        "mine": methods.Facts(role="subject"),
        "shuffled": methods.Facts(role="control", control_of="mine"),
    }
    assert methods.default_pairs(own) == [("mine", "shuffled")]


def test_pairs_of_the_command_line():
    text = " selective:finetune , finetune:weak,"
    assert registrations.parse_pairs(text) == [("selective", "finetune"), ("finetune", "weak")]
    for wrong in ("selective", "a:b:c", "a:"):
        with pytest.raises(UserError, match="is no pair"):
            registrations.parse_pairs(wrong)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [("selective", "posterior")],
            "'posterior' is no model that is tested here: choose of weak, finetune",
        ),
        ([("selective", "selective")], "compares selective with itself"),
        ([("selective", "finetune"), ("finetune", "selective")], "names two models twice"),
        ([], "no two models to compare"),
    ],
)
def test_pairs_that_cannot_be_compared(pairs, message):
    with pytest.raises(UserError, match=message):
        registrations.check_pairs(pairs, KNOWN)


def test_a_registration_is_a_file_with_the_hash_of_its_bytes(workdir):
    assert registrations.read(workdir) is None
    written = registrations.write(workdir, registered_runs.content(CONFIG))
    path = workdir / registrations.FILE
    assert registrations.read(workdir) == written and written.pairs == list(registered_runs.PAIRS)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    text, changes = path.read_text(), {'"tau": 0.1': '"tau": 0.2', '"level": 0.05': '"level": 2.0'}
    changes |= {
        '"num_tests": 2': '"num_tests": 1',
        '"seeds": [\n    0,\n    1\n   ],\n   "n"': '"seeds": [], "n"',
    }
    changed = [text.replace(*change) for change in changes.items()]
    assert text not in changed
    for damaged in ("{", "[]", "null", *changed):
        path.write_text(damaged)
        found = registrations.read(workdir)
        assert found.content is None and found.pairs == [] and found.sha256 != written.sha256


def test_a_study_is_registered_once_and_before_its_students(workdir):
    for label in (
        *("weak, seed 0", "weak-1, seed 0", "weak fold 1 of 2, seed 0", "weak-0 fold 2 of 2, seed 0"),
        *("ceiling, seed 0", "P(IK) alone, seed 0"),
    ):
        add_training(workdir, label)
    registrations.check_new(workdir)
    add_training(workdir, "weak_and_own, seed 2")  # a method of a user's
    with pytest.raises(UserError, match="1 trained students already, weak_and_own, seed 2 among them"):
        registrations.check_new(workdir)
    other = workdir / "other"
    other.mkdir()
    registrations.write(other, registered_runs.content(CONFIG))
    with pytest.raises(UserError, match="has a registration of 2026-01-02T03:04:05"):
        registrations.check_new(other)


def test_a_run_keeps_the_registration_that_it_met_first(workdir):
    assert of_run(workdir) is None
    first = registrations.write(workdir, registered_runs.content(CONFIG))
    met = {"sha256": first.sha256, "students_before": 0, "differing": []}
    assert of_run(workdir) == met
    add_training(workdir, "finetune, seed 0")
    assert of_run(workdir) == met
    # Another file in its place does not become what the run began with, and neither does none.
    registrations.write(workdir, registered_runs.content(CONFIG, level=0.1))
    assert of_run(workdir) == met
    (workdir / registrations.FILE).unlink()
    assert of_run(workdir) == met


def test_a_registration_that_comes_late_is_counted_as_such(workdir):
    add_training(workdir, "finetune, seed 0")
    assert of_run(workdir) is None
    registrations.write(workdir, registered_runs.content(CONFIG))
    assert of_run(workdir)["students_before"] == 1


def test_what_differs_is_listed_key_by_key(workdir):
    registrations.write(workdir, registered_runs.content(CONFIG))
    entry = of_run(workdir, CONFIG | {"graph": {"tau": 0.2}, "added": None}, source="another")
    assert entry["differing"] == [
        {"key": "config.added", "registered": None, "run": None},
        {"key": "config.graph.tau", "registered": 0.1, "run": 0.2},
        {"key": "code", "registered": registered_runs.CODE["source"], "run": "another"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--workdir is missing"),
        (["--workdir=run", "--level=0"], "--level=0 is no probability"),
        (["--workdir=run", "--level=nan"], "--level=nan is no probability"),
        (["--workdir=run", "--compare=selective"], "'selective' is no pair"),
        (["--workdir=run", "--compare=selective:mtl"], "'mtl' is no model"),
        (["--workdir=run", "--config.methods=p_ik_only"], "no two models to compare"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, arguments, message):
    config = tmp_path / "own.py"
    config.write_text(
        "from support import tiny_config\n\n\ndef get_config():\n    return tiny_config.make_config()\n"
    )
    ended = commands.call(preregister_command.main, f"--config={config}", *arguments, cwd=tmp_path)
    commands.assert_refused(ended, message)
    assert not (tmp_path / "run").exists()


def test_a_run_finds_what_was_registered(tmp_path, monkeypatch, capsys):
    config = tiny_config.make_config(weak__model="random-tiny-gpt2", strong__model="random-tiny-gpt2")
    config.methods = ("finetune", "selective")
    found = pipeline.register(config, tmp_path)
    assert found.pairs == [("selective", "finetune")]
    assert found.content["config"] == config_lib.to_json(config_lib.normalize(config))
    with pytest.raises(UserError, match="a study is registered once"):
        pipeline.register(config, tmp_path)
    # A run whose stages are left to others.
    monkeypatch.setattr(schedule, "make_all", lambda *_: None)
    config.graph.tau = 0.2
    pipeline.run(config, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["registration"] == {
        "sha256": found.sha256,
        "students_before": 0,
        "differing": [{"key": "config.graph.tau", "registered": 0.1, "run": 0.2}],
    }
    assert "config.graph.tau is not as registered" in capsys.readouterr().out
    (registered,) = found.content["runs"]
    assert {name: registered[name] for name in ("n", "labels_hash")} == {
        name: manifest["test"][name] for name in ("n", "labels_hash")
    }
    assert registered["seeds"] == [0]
