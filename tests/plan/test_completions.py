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
    jobs,
    kernels,
    limits,
    planner,
    programs,
    report,
    targets,
    total,
    workload,
    writing,
    written_workload,
)
from selw2s_jax.stages import reword, written
from selw2s_jax.stages import stage as stage_lib
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
        pytest.param("lora", "full", 6, 9000, marks=pytest.mark.ci),
        ("all", "none", 3, 9000),
        ("all", "full", 6, 2**27),
    ],
)
def test_products_are_those_of_the_compiled_program(trained, remat, micro, most_logits, monkeypatch):
    monkeypatch.setattr(decoder, "LOGITS_AT_ONCE", most_logits)
    made = make_programs(training__trained=trained, execution__remat=remat, training__micro_batch_size=micro)
    program = made.completion_step(make_model(), LENGTH, NUM_ANSWER)
    done = kernels.executed(program.lower().compile().as_text(), 1)
    assert done.flops == pytest.approx(programs.costs(program)[0].total, rel=1e-3)
    found = limits.products(programs.step_of(program), done.flops)
    assert 0 < found.useful < found.total == done.flops and found.unread > 0
    assert (found.recomputed > 0) == (remat == "full" or micro < BATCH_SIZE or most_logits == 9000)


def test_rows_of_a_batch_are_divided_over_its_micro_batches():
    """However many those are: the same rows, but for what rounding adds."""
    sizes = workload.Training(
        "", "strong", {}, 1, shapes=((2, 160),), mean_length=LENGTH, num_micro=4
    ).largest
    assert sizes.shape == (8, 160)
    rows = {}
    for micro in (None, 3, 1):
        made = make_programs(training__micro_batch_size=micro)
        program = made.completion_step(make_model(), LENGTH, NUM_ANSWER, shape=sizes.shape, num_places=24)
        rows[micro] = (program.num_rows, program.costs["num_micro"], program.costs["num_predicted"])
    assert rows == {None: (8, 1, 8 * 24), 3: (8, 2, 8 * 24), 1: (12, 6, 12 * 24)}


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


ROLES = ("weak", "student", "test")
METHODS = ("finetune", "all_variations", "entropy_filter_sampled", "reweighted")


def test_rows_and_steps_with_and_without_data(tmp_path):
    """Without it they are counted alike by the sizes of the splits; hours by the peaks of a chip."""
    values = {"seeds": (0, 1), "methods": METHODS, "training__micro_batch_size": 2}
    config = planner.cells(written_config.raw(**values))[0].config
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
    sized = largest.largest
    assert sized.num_places % 8 == 0 and 1 < sized.num_answer < sized.length < sized.shape[1]
    assert largest.num_micro == size / 2 and sized.shape[0] == largest.num_micro * max(largest.shapes)[0]
    works = {(one.program, one.slot): one for one in total.of_stages(found.ordered, METHODS[0])}
    assert sum(works["complete", "strong"].counts) == 2 * (sum(steps.values()) + int(epochs * 32 / size))
    # The original order among the variations is answered once.
    plans = [stage.plan for stage in found.ordered if isinstance(stage, written.Write) and any(stage.plan)]
    asked = [sum(len({one.order for one in own} | {(0, 1, 2, 3)}) for own in plan) for plan in plans]
    assert sorted(works["candidates", "weak"].counts) == [31 * 4] * 2 + sorted(4 * n for n in asked)
    assert len(asked) == 2 and max(asked) <= 32 * 3
    # What --steps=all compiles is what the hours are of.
    listed = [job.make(made) for job in jobs.of_completions(config, found, sized, all_steps=True)]
    for work in total.as_counted(list(works.values()), found.trainings):
        program = total._MAKERS[work.program](made, work, found.models[work.slot], work.sizes)
        assert any(total._is_same(one, program) for one in listed), work
    said = []
    plan = planner.Planner(targets.parse("cpu:1"), planner.Options(lengths=(4, 90)), said.append)
    assert [one.num_answer for one in plan._sizes(config, found)] == [sized.num_answer] * 2
    assert said == [f"of these 3, {sized.num_answer} of the answer, as in the data at hand"]


def test_p_ik_takes_the_prompts_that_it_is_of(tmp_path):
    config = planner.cells(written_config.raw(methods=("finetune", "finetune_by_p_ik")))[0].config
    made = programs.Programs(config, jax.devices())
    found = workload.find(config, tmp_path, made.train_batches, written_workload.COMPLETIONS)
    listed = {one.label: one for one in found.trainings}
    p_ik, weak = listed["P(IK)"], listed["weak"]
    assert p_ik.num_examples == {"p_ik": 32} and p_ik.mean_answer == 0
    assert p_ik.mean_length == pytest.approx(weak.mean_length - weak.mean_answer, abs=2)
    works = [one for one in total.of_stages(found.ordered, "") if one.program in ("train", "score")]
    sized = found.trainings[-1].largest
    compiled = [job.make(made) for job in jobs.of_completions(config, found, sized, all_steps=True)]
    counted = {one.program: one for one in total.as_counted(works, found.trainings)}
    assert counted["train"].sizes == p_ik.largest
    assert counted["score"].sizes.length == round(p_ik.mean_length)
    for work in counted.values():
        program = total._MAKERS[work.program](made, work, found.models[work.slot], work.sizes)
        assert any(total._is_same(one, program) for one in compiled), work


def without_data(config, sizes) -> tuple[stage_lib.Stage, ...]:
    """The stages of a run of models without tokenizers."""
    source, models = written_workload.COMPLETIONS, {slot: make_model() for slot in ("weak", "strong")}
    experiment = source.experiment(config, source.without_data(config, models, sizes))
    return tuple(stage_lib.in_order(workload._targets(experiment), identity=lambda stage: stage.label))


@pytest.mark.parametrize(
    ("kind", "changes", "num_asked"),
    [
        ("permutation", {"variations__count": 30}, {24}),
        ("permutation", {"variations__cyclic": True}, {4, 5}),  # the original order is among the four or not
        ("rules", {}, {6}),
        ("sampling", {"answers__by": "generate", "answers__temperature": 0.5}, {6}),
        ("model", {}, {6}),
        ("model", {"answers__by": "generate"}, {6}),
    ],
)
def test_prompts_without_data(kind, changes, num_asked):
    """To a question the original and its variations, those that are alike once."""
    values = {"variations__count": 5, "variations__kind": kind} | changes
    config = written_config.make(methods=("all_variations",), **values)
    stages = without_data(config, {"weak": 9, "student": 10, "test": 11})
    assert [stage.label for stage in without_data(config, None)] == [stage.label for stage in stages]
    (asking,) = (stage for stage in stages if type(stage) is written.Write and any(stage.plan))
    (work,) = total.of_stages([asking], "")
    of_one = 4 if config.answers.by == "score" else 1
    assert min(num_asked) * 10 * of_one <= work.counts[0] <= max(num_asked) * 10 * of_one
    assert [stage.count for stage in stages if isinstance(stage, reword.Reword)] == [5] * (kind == "model")


def test_a_share_of_the_rows_is_named_by_its_methods():
    config = planner.cells(written_config.raw(methods=METHODS, training__first_share=0.8))[0].config
    source = written_workload.COMPLETIONS
    models = {slot: make_model() for slot in ("weak", "strong")}
    counted = source.experiment(config, source.without_data(config, models, dict.fromkeys(ROLES, 30)))
    found = source.trainings(config, counted)
    assert {name: one.rows.num_expected for name, one in found.items()} == {
        "weak": 24, "ceiling": 24, "finetune and 1 more": 24, "all_variations and 1 more": 48,
    }  # fmt: skip


def test_hours_of_written_answers(tmp_path):
    """A token at a time takes as long as the weights are read; twice the tokens, twice that."""
    config = planner.cells(written_config.raw(answers__by="generate"))[0].config
    made = programs.Programs(config, jax.devices())
    models = {slot: make_model() for slot in ("weak", "strong")}
    stages = without_data(config, {"weak": 40, "student": 40, "test": 300})
    works = [one for one in total.of_stages(stages, "") if one.program == "write"]
    assert {300} < {count for one in works for count in one.counts}
    target = targets.Target("h100:1", chips.CHIPS["h100"], (1,))

    def hours(num_answer: int) -> float:
        sizes = workload.Sizes(64 + num_answer, num_answer=num_answer)
        found = total.estimated(config, works, models, sizes, (), made, target)
        assert {row.name for row in found.rows} == {"write"}
        return found.hours

    assert hours(21) - hours(1) == pytest.approx(2 * (hours(11) - hours(1)), rel=0.02) and hours(1) > 0
    cpu = targets.parse("cpu:1")
    assert total.estimated(config, works, models, workload.Sizes(64, num_answer=3), (), made, cpu) is None


def test_hours_of_p_ik_and_of_rewordings():
    values = {"answers__by": "generate", "variations__kind": "model", "methods": ("finetune_by_p_ik",)}
    config = written_config.make(mesh__shape=(1, 1, 1), **values)
    works = total.of_stages(without_data(config, {"weak": 40, "student": 40, "test": 300}), "")
    of_slot = [(one.program, one.method, one.slot) for one in works]
    assert {("train", "p_ik_only", "strong"), ("score", "", "strong"), ("reword", "", "strong")} < set(
        of_slot
    )
    works = [one for one in works if one.program in ("write", "reword")]
    made, models = (
        programs.Programs(config, jax.devices()),
        {slot: make_model() for slot in ("weak", "strong")},
    )
    target = targets.Target("h100:1", chips.CHIPS["h100"], (1,))
    found = total.estimated(config, works, models, workload.Sizes(66, num_answer=2), (), made, target)
    calls = {(row.name, row.call_s) for row in found.rows}
    by_name = {name: max(seconds for one, seconds in calls if one == name) for name in ("write", "reword")}
    assert by_name["reword"] > 9 * by_name["write"]  # as long as the prompt
    text = report.total_table(found)
    assert ": about " in text and "cache on each device" in text
    for row in found.rows:
        assert row.cache_bytes > 0


def test_the_cache_is_divided_over_the_devices():
    made, model = make_programs(execution__score_tokens=2048), make_model()
    one = writing.cache(made, model, 100, 40)
    assert one == (2048 // 192, 192, one.num_rows * 192 * 2 * 3 * 2 * 12 * made.compute_bytes)


def test_published_sizes():
    config = written_config.make()
    config.task, config.data.source, config.data.num_train, config.data.num_test = "mmlu", "hub", 2000, None
    source = written_workload.COMPLETIONS
    assert source.published(config) == {"weak": 285, "student": 1000, "test": 14042}
    config.data.mmlu_train = "auxiliary"
    assert source.published(config) is None
    (sizes,) = written_workload.default_sizes(config)
    assert 0 < sizes.num_answer < sizes.length <= config.data.max_length
    assert workload.Sizes(1, num_answer=9).of_completion["length"] == 2
