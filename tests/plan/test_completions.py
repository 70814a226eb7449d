"""Plans of runs whose models write: the program of a run, its products and bytes, its rows and steps without data."""

import jax
import numpy as np
import pytest
from support import plan_worker, written_config

from selw2s_jax.data import batches
from selw2s_jax.hf import pretrained
from selw2s_jax.models import decoder
from selw2s_jax.plan import (
    chips,
    forms,
    kernels,
    limits,
    planner,
    programs,
    targets,
    total,
    workload,
    written_workload,
)
from selw2s_jax.training import completion, state, step

LENGTH, NUM_ANSWER, BATCH_SIZE = 45, 7, 6


def make_programs(**values) -> programs.Programs:
    values = {
        "training__batch_size": BATCH_SIZE,
        "lora__targets": ("q", "v"),
        "mesh__shape": (1, 1, 1),
    } | values
    return programs.Programs(written_config.make(**values), jax.devices())


def make_model(**sizes) -> pretrained.Model:
    return plan_worker.make_model("llama", **{"vocab_size": 531, "num_kv_heads": 2} | sizes)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("micro", [None, 3])
def test_the_program_is_that_of_a_run(micro):
    """The same text goes to the compiler as where a stage trains on rows of these lengths."""
    made, model = make_programs(training__micro_batch_size=micro), make_model()
    program = made.completion_step(model, LENGTH, NUM_ANSWER)
    settings, mesh = made.settings, program.mesh
    module = pretrained.random_trainable(model.config, settings.language_model(model, mesh))
    of_parts = [[np.ones(part, np.int32)] * 11 for part in (LENGTH - NUM_ANSWER, NUM_ANSWER)]
    rows = batches.completion_examples([str(i) for i in range(11)], *of_parts, np.linspace(0.1, 1, 11))
    sizes = {batches.TASK: BATCH_SIZE}
    data = settings.make_batches({batches.TASK: rows}, sizes, num_steps=5, order_seed=3, mesh=mesh)
    optimizer = settings.optimizer(model, made._num_steps())
    graphdef, held, shardings = state.start(module, optimizer, mesh)
    run = step.make_train_step(
        graphdef, completion.completion(), optimizer, mesh=mesh, state_shardings=shardings
    )
    batch = batches.device_batch(data.batch_at(data.largest_step), mesh)
    assert run.lower(held, batch).as_text() == program.lower().as_text()
    # Of a shape that was packed, with as many places for answers.
    (shape,), (places,) = data.shapes, data.answer_places
    of_batch = (shape[0] * data.num_micro, shape[1])
    same = made.completion_step(model, LENGTH, NUM_ANSWER, shape=of_batch, num_places=places)
    assert same.lower().as_text() == program.lower().as_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "remat", "micro", "most_logits"),
    [
        ("lora", "none", 6, 2**27),
        ("lora", "full", 6, 9000),
        ("all", "none", 3, 9000),
        ("all", "full", 6, 2**27),
    ],
)
def test_products_are_those_of_the_compiled_program(trained, remat, micro, most_logits, monkeypatch):
    monkeypatch.setattr(decoder, "_LOGITS_AT_ONCE", most_logits)
    made = make_programs(training__trained=trained, execution__remat=remat, training__micro_batch_size=micro)
    program = made.completion_step(make_model(), LENGTH, NUM_ANSWER)
    done = kernels.executed(program.lower().compile().as_text(), 1)
    assert done.flops == pytest.approx(programs.costs(program)[0].total, rel=1e-3)
    found = limits.products(programs.step_of(program), done.flops)
    assert 0 < found.useful < found.total == done.flops and found.unread > 0
    assert (found.recomputed > 0) == (remat == "full" or micro < BATCH_SIZE or most_logits == 9000)


def make_step(**changes) -> limits.Step:
    config = make_model(num_layers=3, embed_dim=32, num_heads=4, head_dim=8, vocab_size=96).config
    given = limits.Step(
        config, 128, 120, 10, 12, 16, "all", "none", 1, True, 0, (1, 1, 1), 1000, 1000, 4, 2, 4,
        num_read=24, num_predicted=24, num_answered=20,
    )  # fmt: skip
    return given._replace(**changes)


def test_logits_are_of_answer_tokens_alone():
    one = 2 * 96 * 32  # FLOPs of the logits of a token
    with_head = limits.formula_flops(make_step())
    assert with_head - limits.formula_flops(make_step(num_predicted=0, num_examples=0)) == 3 * 24 * one
    lora = {"trained": "lora"}
    frozen = limits.formula_flops(make_step(**lora)) - limits.formula_flops(
        make_step(**lora, num_predicted=0, num_examples=0)
    )
    assert frozen == 2 * 24 * one
    again = make_step(logits_again=True)
    assert limits.formula_flops(again) - with_head == 24 * one
    found = limits.products(again, limits.formula_flops(again))
    assert found.recomputed == 24 * one and found.others == 0 and found.unread > 3 * 4 * one
    padded = make_step(num_predicted=40, logits_again=True)
    more = limits.products(padded, limits.formula_flops(padded))
    assert more.useful == found.useful and more.unread - found.unread == 3 * 16 * one


def test_the_least_bytes_of_the_vocabulary():
    weights, hidden = 96 * 32 * 2, 24 * 32 * 2
    assert limits.network(make_step())["head"] == 0
    assert limits.network(make_step(mesh_shape=(1, 4, 1)))["head"] == pytest.approx(3 * 3 / 4 * weights)
    assert limits.network(make_step(mesh_shape=(1, 4, 1), trained="lora"))["head"] == 2 * 3 / 4 * weights
    assert limits.network(make_step(mesh_shape=(1, 1, 4)))["head"] == 2 * 3 / 4 * hidden
    assert limits.network(make_step(mesh_shape=(2, 1, 1), num_micro=3))["head"] == 3 * weights
    without = limits.memory(make_step(num_predicted=0))["weights"]
    assert limits.memory(make_step())["weights"] - without == 2 * weights
    assert limits.memory(make_step(mesh_shape=(1, 1, 4)))["weights"] < limits.memory(make_step())["weights"]


METHODS = ("finetune", "all_variations", "entropy_filter_sampled", "reweighted")


def test_rows_and_steps_with_and_without_data(tmp_path):
    """Without it they are counted alike by the sizes of the splits; hours by the peaks of a chip."""
    config = planner.cells(written_config.raw(methods=METHODS, seeds=(0, 1)))[0].config
    made, source = programs.Programs(config, jax.devices()), written_workload.COMPLETIONS
    assert forms.get(config).source is source and source.published(config) is None  # generated questions
    found = workload.find(config, tmp_path, made.train_batches, source)
    assert not found.missing and not any(stage.is_done for stage in found.stages)
    sizes = {"weak": 32, "student": 32, "test": 31}
    counted = source.experiment(config, source.without_data(config, found.models, sizes))
    outline = workload._outline(workload._targets(counted), has_data=True)
    assert [stage[:2] for stage in outline] == [stage[:2] for stage in found.stages]
    epochs, size = config.training.epochs, config.training.batch_size
    steps = {name: int(epochs * n / size) for name, n in zip(METHODS, (32, 64, 32, 64), strict=True)}
    assert {name: counted.student(1, name).num_steps for name in METHODS} == steps
    listed = {one.label: one for one in found.trainings}
    assert list(listed) == ["weak", "ceiling", "finetune and 1 more", "all_variations and 1 more"]
    largest = found.trainings[-1]
    assert largest.num_examples == {"task": 64} and largest.num_steps == steps["reweighted"]
    sized = largest.sizes(largest.shapes[0])
    assert sized.num_places % 8 == 0 and 1 < sized.num_answer < sized.length < largest.shapes[0][1]
    works = {(one.program, one.slot): one for one in total.of_stages(found.ordered, METHODS[0])}
    assert sum(works["complete", "strong"].counts) == 2 * (sum(steps.values()) + int(epochs * 32 / size))
    assert sorted(works["candidates", "weak"].counts) == 2 * [31 * 4] + 2 * [32 * 3 * 4]


def test_hours_of_written_answers(tmp_path):
    """A token at a time takes as long as the weights are read; twice the tokens, twice that."""
    config = planner.cells(written_config.raw(answers__by="generate"))[0].config
    made = programs.Programs(config, jax.devices())
    models = {slot: make_model() for slot in ("weak", "strong")}
    source = written_workload.COMPLETIONS
    inputs = source.without_data(config, models, {"weak": 40, "student": 40, "test": 300})
    stages = workload._targets(source.experiment(config, inputs))
    works = [one for one in total.of_stages(stages, "") if one.program == "write"]
    assert {count for one in works for count in one.counts} == {300, 40 * 3}
    target = targets.Target("h100:1", chips.CHIPS["h100"], (1,))

    def hours(num_answer: int) -> float:
        sizes = workload.Sizes(64 + num_answer, num_answer=num_answer)
        found = total.estimated(config, works, models, sizes, (), made, target)
        assert {row.name for row in found.rows} == {"write"}
        return found.hours

    assert hours(21) - hours(1) == pytest.approx(2 * (hours(11) - hours(1)), rel=0.02) and hours(1) > 0
    cpu = targets.parse("cpu:1")
    assert total.estimated(config, works, models, workload.Sizes(64, num_answer=3), (), made, cpu) is None


def test_published_sizes(monkeypatch):
    config = written_config.make()
    config.task, config.data.source, config.data.num_train, config.data.num_test = "mmlu", "hub", 2000, None
    source = written_workload.COMPLETIONS
    assert source.published(config) == {"weak": 285, "student": 1000, "test": 14042}
    config.data.mmlu_train = "auxiliary"
    assert source.published(config) is None
    (sizes,) = written_workload.default_sizes(config)
    assert 0 < sizes.num_answer < sizes.length <= config.data.max_length
    assert workload.Sizes(1, num_answer=9).of_completion["length"] == 2
