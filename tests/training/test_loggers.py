"""Loggers of training: what they are given, once each, also where a training goes on; what is missing in one line."""

import importlib.util
import sys
import types

import ml_collections
import pytest
from etils import epath

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import distributed
from selw2s_jax.training import fit, loggers

KEY = "0123456789abcdef"


class Tracker:
    """Stands for a library with `init`: keeps what it is called with."""

    def __init__(self):
        self.started, self.logged, self.num_finished = [], [], 0

    def init(self, **arguments):
        self.started.append(arguments)
        return types.SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, values, step):
        self.logged.append((step, values))

    def _finish(self):
        self.num_finished += 1

    def Settings(self, **settings):
        return settings

    def login(self):
        return True


@pytest.fixture
def tracker(monkeypatch, request):
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, request.param, tracker)
    return request.param, tracker


def settings(**on):
    return ml_collections.ConfigDict(
        dict.fromkeys(loggers.LOGGERS, False) | {"every_steps": 1, "project": "lab"} | on
    )


def files(folder, **on):
    return fit.Files(
        epath.Path(folder),
        "student selective, seed 0",
        KEY,
        ml_collections.ConfigDict(),
        settings(**on),
        inputs={"learning_rate": 1e-3},
    )


def write(log, steps):
    for step in steps:
        log.write(step, {"loss": float(step)})
    log.close()


@pytest.mark.parametrize("tracker", ["wandb", "trackio"], indirect=True)
def test_a_training_that_goes_on_is_the_same_run_and_logs_no_step_twice(tmp_path, tracker):
    name, library = tracker
    given = files(tmp_path / "study", **{name: True})
    write(given.log(0), range(5))
    write(given.log(3), range(3, 7))  # killed after step 4, its last state of step 3
    assert library.logged == [(step, {"train/loss": float(step)}) for step in range(7)]
    first, again = library.started
    assert first == again and library.num_finished == 2
    assert first["project"] == "lab" and first["group"] == "study" and first["resume"] == "allow"
    assert KEY in (first.get("id") or first["name"])
    assert first["config"] == {
        "label": given.label,
        "key": KEY,
        "inputs": {"learning_rate": 1e-3},
    }
    assert "/" not in first["name"]


@pytest.mark.parametrize("tracker", ["trackio"], indirect=True)
def test_what_trackio_says_of_every_run_stays_off_the_output(tmp_path, tracker, capsys):
    init = tracker[1].init

    def speak(**arguments):
        print("* Trackio project initialized\n\x1b[1mtrackio show\x1b[0m\nof another thread")
        return init(**arguments)

    tracker[1].init = speak
    write(files(tmp_path, trackio=True).log(0), range(2))
    assert capsys.readouterr().out == "of another thread\n"


@pytest.mark.parametrize("tracker", ["wandb"], indirect=True)
def test_other_processes_start_none(tmp_path, tracker, monkeypatch):
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    write(files(tmp_path, wandb=True).log(0), range(3))
    assert not tracker[1].started


@pytest.mark.parametrize("tracker", ["wandb"], indirect=True)
def test_a_tracker_that_fails_under_way_is_said_once_and_ends_no_training(tmp_path, tracker, capsys):
    library, failed = tracker[1], []

    def fail(*values, **named):
        failed.append(named)
        raise ConnectionError("the network\nis gone")

    library._log = fail
    given = files(tmp_path, wandb=True)
    write(given.log(0), range(3))
    assert len(failed) == 1 and library.num_finished == 1
    library._log, library._finish = Tracker._log.__get__(library), fail
    write(given.log(3), [3])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all(
        "logging.wandb fails (ConnectionError: the network is gone)" in line for line in said
    )
    assert "from step 0 on" in said[0] and "last steps" in said[1]
    lines = (tmp_path / "logs").glob("*.jsonl")
    assert [line.count("step") for path in lines for line in path.read_text().splitlines()] == [1] * 4


@pytest.mark.parametrize("name", loggers.LOGGERS)
def test_a_package_that_is_missing(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    package = loggers.LOGGERS[name].package
    with pytest.raises(
        UserError, match=rf"logging.{name}=True needs {package}: pip install 'selw2s-jax\[{name}\]'"
    ):
        loggers.check_packages(settings(**{name: True}))
    loggers.check_packages(settings())


@pytest.mark.parametrize("tracker", ["wandb"], indirect=True)
def test_wandb_is_asked_for_an_account_before_device_work_unless_offline(tracker, monkeypatch):
    def login():
        raise ValueError("No API key\nconfigured.")

    tracker[1].login = login
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers.check_ready(settings(wandb=True))
    monkeypatch.setenv("WANDB_MODE", "online")
    loggers.check_ready(settings())
    with pytest.raises(UserError) as caught:
        loggers.check_ready(settings(wandb=True))
    assert "logging.wandb=True: it does not start (ValueError: No API key configured.)" in str(caught.value)
    assert "WANDB_MODE=offline" in str(caught.value) and "\n" not in str(caught.value)
