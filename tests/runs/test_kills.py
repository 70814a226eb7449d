"""A run killed in training, in saving or in scoring, and started again, ends as one that nobody killed."""

import signal
import sys

import pytest
from support import paths

BENCHMARKS = paths.REPO / "benchmarks"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kills():
    """The module of benchmarks/kills.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import kills

        yield kills
    for name in ("kills", "run_differences"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def study(kills, tmp_path_factory):
    """A study with its reference."""
    study = kills.Study(tmp_path_factory.mktemp("kills"))
    study.timeline = study.untouched("reference")
    return study


@pytest.fixture(scope="module")
def writing_study(kills, tmp_path_factory):
    """The same of a run whose models write."""
    study = kills.Study(tmp_path_factory.mktemp("kills"), run="completion")
    study.timeline = study.untouched("reference")
    return study


@pytest.mark.parametrize(
    "number, phase, stage, at",
    [
        (signal.SIGKILL, "training", "selective, seed 0", 23),
        (signal.SIGTERM, "training", "pretraining of the strong model", 41),
        (signal.SIGKILL, "scoring", "few-shot answers on world_traits (P(IK)), seed 0", 0.0),
    ],
)
def test_a_run_that_is_killed_and_started_again_has_the_untouched_result(
    kills, study, number, phase, stage, at
):
    check_kill(kills, study, number, phase, stage, at)


@pytest.mark.parametrize(
    "number, phase, stage, at",
    [
        (signal.SIGKILL, "training", "reweighted, seed 0", 23),
        (signal.SIGTERM, "scoring", "weak answers, seed 0", 0.0),
    ],
)
def test_so_has_one_whose_models_write(kills, writing_study, number, phase, stage, at):
    check_kill(kills, writing_study, number, phase, stage, at)


@pytest.fixture(scope="module")
def teaching_study(kills, tmp_path_factory):
    """The same of a run whose students earlier ones teach."""
    study = kills.Study(tmp_path_factory.mktemp("kills"), run="two_stage")
    study.timeline = study.untouched("reference")
    return study


@pytest.mark.parametrize(
    "number, phase, stage, at",
    [
        (signal.SIGKILL, "training", "two_stage, seed 0", 70),
        (signal.SIGTERM, "training", "two_stage 1, seed 0", 11),
    ],
)
def test_so_has_one_whose_students_earlier_ones_teach(kills, teaching_study, number, phase, stage, at):
    check_kill(kills, teaching_study, number, phase, stage, at)


def check_kill(kills, study, number, phase, stage, at):
    moment = kills.Moment(phase, stage, at)
    trial = study.trial(f"{number.name}-{phase}", [(moment, number)])
    assert trial["faults"] == []
    (kill,) = trial["kills"]
    assert kill["stage"] == stage and kill["phase"] in (phase, "saving")
    assert (
        kill["exit_status"]
        == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: kills.SAVED_AND_STOPPED}[number]
    )
    if phase == "training":
        assert kill["step"] >= at and kill["resumed_at_step"] >= at - 15
