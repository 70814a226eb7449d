"""The layout of a training: chosen by memory, compiled once, kept where training stops, and no part of a key."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
from support import written_stages

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import preemption
from selw2s_jax.stages import layouts, rows, stage, workbench
from selw2s_jax.training import fit, loop
from selw2s_jax.training import layouts as layout_search

ONE_DEVICE = (1, 1, 1)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return written_stages.answered(tmp_path_factory.mktemp("answers"))


def make(answers, **changes):
    return written_stages.make_student(answers[0], "reweighted", **changes)


def make_bench(answers, folder, usable_bytes: int | None = None) -> workbench.Workbench:
    bench = workbench.Workbench(written_stages.copy_of(answers, folder), folder, jax.devices()[:1])
    if usable_bytes is not None:
        bench.usable_bytes = usable_bytes
    return bench


def record_of(bench, training) -> dict:
    return stage.find(bench.store, training).read_json("summary.json")["layout"]


def chosen_by(answers, bench, count, **changes) -> layouts.Chosen:
    """The choice of a training, whose counts are made up."""
    training = make(answers, **changes)
    examples, _ = rows.encode(training.rows.texts(bench.store), training.model, overlong="drop", label="test")
    return layouts.choose(training, bench, {0: examples}, {0: 2}, count)


def test_keys_name_no_layout(answers):
    layout = layout_search.Layout((1, 1, 1), "full", 2)
    training = make(answers)
    laid_out = dataclasses.replace(training, settings=training.settings.laid_out(layout))
    assert laid_out.key == training.key
    assert laid_out.settings.training.micro_batch_size == 1 and laid_out.settings.execution.remat == "full"
    assert training.settings.given(training.model) == (None, None, None)
    given = laid_out.settings.given(training.model, jax.devices()[:1])
    assert given.layout == layout


def test_each_layout_is_taken_in_turn_as_memory_shrinks(answers, tmp_path):
    bench = make_bench(answers, tmp_path)
    counts = {("dots", 1): 90, ("full", 1): 70, ("dots", 2): 60, ("full", 2): 50}
    count = lambda layout: counts[layout.remat, layout.num_micro] << 20  # noqa: E731
    found = []
    for mib in (200, 80, 68, 57):
        bench.usable_bytes = mib << 20
        with pytest.MonkeyPatch.context() as patch:  # so that there is always doubt
            patch.setattr(layout_search, "rough_bytes", lambda work, layout: count(layout))
            patch.setattr(layout_search, "_SURELY_FITS", 0.0)
            found.append(chosen_by(answers, bench, count))
    assert [(one.layout.remat, one.layout.num_micro) for one in found] == list(counts)
    assert layouts.to_text(found[1].record, 2) == (
        "layout: remat full, mesh data 1 x fsdp 1 x tensor 1, whole batches: 0.07 of 0.08 GiB (counted by the "
        "compiler); too large: remat dots, mesh data 1 x fsdp 1 x tensor 1, whole batches: 0.09 GiB"
    )
    assert found[2].record["usable_gib"] == 0.066 and json.dumps(found[2].record)


def test_nothing_that_fits_is_an_error_with_a_remedy(answers, tmp_path):
    bench = make_bench(answers, tmp_path, 1 << 20)
    with pytest.raises(UserError) as error:
        chosen_by(answers, bench, lambda layout: 1 << 30, training__micro_batch_size=2)
    for part in (
        "reweighted, seed 0: no layout of its train step fits into the 0.00 GiB of a device",
        "needs 1.00 GiB, 1.00 GiB too many",
        "leave training.micro_batch_size to be chosen",
        "use more devices",
        "data.max_length",
    ):
        assert part in str(error.value)
    bench.usable_bytes = 1000
    with pytest.raises(UserError, match="parameters and moments alone, divided over the devices, needs"):
        chosen_by(answers, bench, None)


def test_where_memory_is_not_known_the_leanest_remat_is_taken(answers, tmp_path):
    bench = make_bench(answers, tmp_path)
    bench.usable_bytes = None
    assert chosen_by(answers, bench, None).layout == layout_search.Layout(ONE_DEVICE, "full", 1)


def test_all_processes_take_what_fits_on_each(answers, tmp_path, monkeypatch):
    for own, agreed in (((5, 7), 5), ((7, None), None)):
        monkeypatch.setattr(workbench.distributed, "gather", lambda value, own=own: [value, *own])
        assert workbench.Workbench(answers[1], tmp_path).usable_bytes == agreed


# Whole trainings.


@pytest.fixture
def compiled():
    """Grows by every compilation of a train step."""
    found = []

    def note(event: str, _: float, **facts) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and "train_step" in facts.get(
            "fun_name", ""
        ):
            found.append(facts)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.slow
@pytest.mark.ci
def test_what_the_compiler_counted_is_what_runs_and_a_stopped_training_keeps_it(
    answers, tmp_path, monkeypatch, compiled
):
    """The same bits as with the layout given, whatever memory there is when it goes on."""
    training = make(answers)
    straight = make_bench(answers, tmp_path / "straight")
    monkeypatch.setattr(layout_search, "_SURELY_FITS", 0.0)
    straight.make(training)
    record = record_of(straight, training)
    assert record["by"] == "counted by the compiler" and len(record["tried"]) == 1
    data_shapes = stage.find(straight.store, training).read_json("summary.json")["shapes"]
    assert len(compiled) == len(data_shapes)

    shape, remat = tuple(record["mesh"]), record["remat"]
    explicit = make(answers, mesh__shape=shape, execution__remat=remat, training__micro_batch_size=2)
    given = make_bench(answers, tmp_path / "given")
    given.train_steps = straight.train_steps
    given.make(explicit)
    assert record_of(given, explicit)["by"] == "given" and len(compiled) == len(data_shapes)

    stopped = make_bench(answers, tmp_path / "stopped")
    stopped.train_steps = straight.train_steps
    polls = iter(range(99))
    told = types.SimpleNamespace(reached=lambda: next(polls) >= 2, Preempted=preemption.Preempted)
    with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
        patch.setattr(loop, "preemption", told)
        stopped.make(training)
    kept = fit.checkpoints_folder(tmp_path / "stopped", training.key) / layouts.FILE
    assert json.loads(kept.read_text()) == record
    with monkeypatch.context() as patch:  # now another would come first
        patch.setattr(layout_search, "REMATS", ("full", "dots"))
        patch.setattr(layout_search, "time_estimate", lambda work, layout: layout.remat == "dots")
        stopped.make(training)
    assert record_of(stopped, training) == record and len(compiled) == len(data_shapes)
    for bench in (given, stopped):
        for ours, theirs in zip(weights(bench, training), weights(straight, training), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def weights(bench, training) -> list[np.ndarray]:
    bench.release()
    adapters = training.hold(bench).adapters
    return [np.asarray(getattr(adapters[name], part)[...]) for name in adapters.names for part in ("a", "b")]
