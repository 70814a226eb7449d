"""Training of models that write: what reaches the step, keys, checks before any device work, and stopped runs."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from support import commands, completion_worker, paths, written_stages

from selw2s_jax.data import batches
from selw2s_jax.errors import UserError
from selw2s_jax.runtime import preemption
from selw2s_jax.stages import rows, stage, workbench, written
from selw2s_jax.training import fit, loop


@pytest.fixture(scope="module")
def run_differences():
    """The module of benchmarks/run_differences.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(paths.REPO / "benchmarks")
        import run_differences

        yield run_differences
    del sys.modules["run_differences"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return written_stages.answered(tmp_path_factory.mktemp("answers"))


@pytest.fixture
def make(answers):
    """A student of the four questions; further changes of its fields, and of the config as `section__key`."""
    return lambda method="reweighted", **changes: written_stages.make_student(answers[0], method, **changes)


class Reached(Exception):
    """Training would begin."""


@pytest.fixture
def begin(answers, monkeypatch, tmp_path):
    """What a stage hands to a training run, which then is not begun."""

    def begin(training):
        handed = {}

        def stop(data, abstract, initialize, **options):
            handed.update(options, data=data)
            raise Reached

        monkeypatch.setattr(fit, "fit", stop)
        with pytest.raises(Reached):
            training.write(tmp_path, workbench.Workbench(answers[1], tmp_path))
        return types.SimpleNamespace(**handed)

    return begin


def test_the_loss_of_the_config_reaches_the_step(make, begin):
    plain, other = begin(make()), begin(make(mean="tokens", normalize=True))
    assert plain.objective == ("completion", "rows", False)
    assert other.objective == ("completion", "tokens", True)
    assert plain.computation.loss.keywords == {"mean": "rows", "normalize": False}
    assert other.computation.loss.keywords == {"mean": "tokens", "normalize": True}


def test_rows_fix_the_steps_unless_they_are_those_of_the_questions(make, begin):
    """11 rows of 4 questions, in batches of 2, for 3 epochs; the filter has 8 rows."""
    steps = {name: begin(make(name)).data.num_steps for name in ("finetune", "reweighted", "entropy_filter")}
    assert steps == {"finetune": 4, "reweighted": 16, "entropy_filter": 12}
    for name in steps:
        matched = begin(make(name, num_questions=4))
        assert matched.data.num_steps == 6 == matched.optimizer.num_steps


def test_the_weights_and_the_order_reach_the_batches(make, begin, answers):
    data = begin(make()).data
    found = [data.batch_at(number) for number in range(data.num_steps)]
    ids, weights = (
        np.concatenate(column)
        for column in zip(*((b.index[0], b.example_weight[0]) for b in found), strict=True)
    )
    assert sorted(ids[:11].tolist()) == list(range(11))  # an epoch has each row once
    texts = make().rows.texts(answers[1])
    np.testing.assert_array_equal(weights, texts.weights[ids])
    assert begin(make(order_seed=5)).data.batch_at(0).index.tolist() != found[0].index.tolist()
    assert all(batch.answers is not None and (batch.kind == batches.TASK).all() for batch in found)


# Keys.


def test_a_key_names_what_training_is_a_function_of(make, answers):
    first = make()
    changed = {
        "rows": make("all_variations"),
        "mean": make(mean="tokens"),
        "normalize": make(normalize=True),
        "matched steps": make(num_questions=4),
        "epochs": make(epochs=2.0),
        "order": make(order_seed=1),
        "start of adapters": make(init_seed=1),
        "rank": make(lora__rank=2),
        "targets": make(lora__targets=("attention",)),
        "all": make(training__trained="all"),
        "batch": make(training__batch_size=4),
        "clip": make(training__clip_norm=0.5),
        "decay": make(training__weight_decay=0.1),
        "schedule": make(training__schedule="constant"),
        "dtype": make(precision__compute_dtype="bfloat16"),
        "truncated": make(data__overlong="truncate"),
        "longest": make(max_length=100),
        "rate": make(learning_rate=1e-2),
    }
    keys = {name: one.key for name, one in changed.items()}
    assert len({first.key, *keys.values()}) == len(keys) + 1, keys
    same = {
        "micro-batches": make(training__micro_batch_size=1),
        "devices": make(mesh__shape=(1, 1, 1)),
        "recomputation": make(execution__remat="none"),
        "shapes": make(execution__train_shapes=1),
        "scoring": make(execution__score_tokens=99),
        "saving": make(checkpoint__every_steps=1),
        "logging": make(logging__every_steps=9),
        "the default": make(data__overlong="drop"),
    }
    assert {name: one.key for name, one in same.items()} == dict.fromkeys(same, first.key)
    refusing = [make(data__overlong="error", max_length=most).key for most in (100, 128)]
    assert refusing[0] == refusing[1]  # no row reaches the limit
    everything = [make(training__trained="all", init_seed=seed).key for seed in (1, 2)]
    assert everything[0] == everything[1]  # nothing starts at random
    assert not [name for name in first.inputs["rows"] if name.startswith("code of")]
    assert first.needs == (answers[0],)


def test_ground_truth_is_in_no_key_of_a_student(make, answers):
    asked = answers[0]
    split = dataclasses.replace(
        asked.split, questions=[dataclasses.replace(one, answer=1) for one in asked.split.questions]
    )
    poisoned = dataclasses.replace(asked, split=split)
    told = written_stages.make_student(poisoned, "reweighted")
    assert told.key == make().key and poisoned.key == asked.key
    ceilings = [dataclasses.replace(make(), rows=rows.Truth(one)).key for one in (asked.split, split)]
    assert ceilings[0] != ceilings[1]


# Before any device work.


def test_sizes_that_cannot_run_are_refused_at_once(make, answers):
    ceiling = dataclasses.replace(make(), label="ceiling, seed 0", rows=rows.Truth(answers[0].split))
    for training in (ceiling, make()):
        training.check()

    def refused(training, message, **changes):
        with pytest.raises(UserError, match=message):
            written_stages.change(training, **changes).check()

    refused(
        ceiling, "^ceiling, seed 0: 4 examples and 3.0 epochs make no batch of 13", training__batch_size=13
    )
    refused(
        make(), "^reweighted, seed 0: 16 examples and 3.0 epochs make no batch of 49", training__batch_size=49
    )
    refused(make(num_questions=4), "4 examples and 3.0 epochs make no batch of 13", training__batch_size=13)
    refused(ceiling, r"training\.warmup_steps=6 leaves nothing of the 6 steps", training__warmup_steps=6)
    refused(ceiling, "none of the 4 rows .* more than 9 tokens", max_length=9)
    refused(ceiling, r"4 of 4 rows .*first: tiny_choice/test/0#0", max_length=9, data__overlong="error")
    written_stages.change(make(), max_length=9).check()  # which rows it has nobody knows yet
    with pytest.raises(UserError, match=r"config\.lora\.targets"):
        make(lora__targets=("q",)).check()  # GPT-2 has q, k and v in one


def test_a_warm_up_longer_than_the_rows_is_refused_when_they_are_known(make, answers, tmp_path):
    training = make("finetune", training__warmup_steps=5)  # 16 rows at most, but 3 are found
    training.check()
    with pytest.raises(UserError, match="warmup_steps=5 leaves nothing of the 4 steps of finetune, seed 0"):
        training.write(tmp_path, workbench.Workbench(answers[1], tmp_path))


# Whole trainings.


@pytest.mark.slow
@pytest.mark.ci
def test_a_stopped_training_goes_on_bit_for_bit_and_its_model_answers(
    answers, tmp_path, monkeypatch, run_differences
):
    """With dropout, in micro-batches, of which the second begins elsewhere in a packed row; stopped twice."""
    training = written_stages.make_student(
        answers[0], "reweighted", lora__dropout=0.25, training__micro_batch_size=1
    )
    asking = written.Write(
        "evaluation of reweighted, seed 0",
        training.settings,
        training,
        answers[0].split,
        [()] * 4,
        answers[0].how,
    )
    steps, results = {}, []
    for name, stops in (("whole", ()), ("stopped", (3, 5))):
        bench = workbench.Workbench(written_stages.copy_of(answers, tmp_path / name), tmp_path / name)
        bench.train_steps = steps
        for count in stops:
            polls = iter(range(99))
            told = types.SimpleNamespace(
                reached=lambda polls=polls, count=count: next(polls) >= count - 1,
                Preempted=preemption.Preempted,
            )
            with (
                monkeypatch.context() as patch,
                pytest.raises(preemption.Preempted, match="of 16 of reweighted"),
            ):
                patch.setattr(loop, "preemption", told)
                bench.make(training)
            assert list((tmp_path / name / "checkpoints" / training.key).iterdir())
        bench.make(training)
        bench.make(asking)
        assert not list(tmp_path.glob("*/checkpoints/*"))
        results.append(tmp_path / name)
    assert run_differences.artifact_folders(results[0]).keys() == {
        f"{one.name}/{one.key}" for one in (training, asking, answers[0])
    }
    for path in results:  # which whole runs have
        for name in ("results.json", "config.json"):
            (path / name).write_text("{}")
    assert run_differences.differences(*results) == []
    (log,) = results[1].glob("logs/*.jsonl")
    losses = [json.loads(line)["train/loss"] for line in log.read_text().splitlines()]
    assert len(losses) == 16 and np.std(losses) > 1e-3
    summary = stage.find(bench.store, training).read_json("summary.json")
    assert summary["rows"] == {
        "num_rows": 11,
        "num_questions": 4,
        "overlong": 0,
        "left_out": 0,
        "unfinished": 1,
        "mean_weight": pytest.approx(float(np.mean(training.rows.texts(bench.store).weights)), rel=1e-6),
    }


@pytest.mark.slow
def test_layouts_and_micro_batches_give_the_same_model(answers, tmp_path):
    """8 devices as 2 x 2 x 2, micro-batches and rows of their own, of a method with weights, and of one without."""
    command = [sys.executable, completion_worker.__file__, tmp_path]
    environment = os.environ | {"PYTHONPATH": paths.PYTHONPATH, "XLA_FLAGS": commands.xla_flags(8)}
    subprocess.run(command, env=environment, check=True, timeout=600)
    found = json.loads((tmp_path / "found.json").read_text())
    for method, by_layout in found.items():
        expected = by_layout.pop("one device")
        for layout, actual in by_layout.items():
            for key, values in expected.items():
                np.testing.assert_allclose(
                    actual[key],
                    values,
                    rtol=1e-5,
                    atol=1e-5 * np.abs(values).max(),
                    err_msg=f"{method}, {layout}, {key}",
                )
