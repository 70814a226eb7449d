"""Tasks that are learnt one after the other: who starts from what, and what is tested."""

import dataclasses

import pytest
from support import tiny_config

from selw2s_jax import config as config_lib
from selw2s_jax.errors import UserError
from selw2s_jax.experiments import checks, continual, selective
from selw2s_jax.experiments import inputs as inputs_lib
from selw2s_jax.plan import workload
from selw2s_jax.run import sweep

TASKS = ("sciq", "boolq")


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """Of both tasks, and of the second one on its own."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny_config.make_config(methods=("selective", "random_selection"), continual__tasks=TASKS)
    cells = sweep.expand(config_lib.normalize(config))
    assert [cell.name for cell in cells] == ["task=sciq", "task=boolq"]
    made = [
        continual.Experiment(cell.config, continual.prepare(cell.config, workdir, notes=("a note",)))
        for cell in cells
    ]
    alone = cells[1].config.copy_and_resolve_references()
    alone.continual.tasks = ()
    return *made, selective.Experiment(alone, inputs_lib.prepare(alone, workdir))


def test_students_and_ceiling_go_on_from_the_task_before(experiments):
    first, second, alone = experiments
    for name in ("ceiling", "selective", "random_selection"):
        assert first.trained(0, name).starts_from is None
        assert second.trained(0, name).starts_from.key == first.trained(0, name).key
        assert second.trained(0, name).key != alone.trained(0, name).key
    # Weak model, its labels and the strong model's answers are those of a run of the task alone.
    assert second.weak(0).key == alone.weak(0).key
    assert second.weak_labels(0).key == alone.weak_labels(0).key
    assert second.answers(0, "student_half").key == alone.answers(0, "student_half").key
    assert second.inputs.notes == ("a note", *alone.inputs.notes)
    assert not second.inputs.is_papers_data


def test_p_ik_tells_no_truth_of_a_later_task(experiments):
    of_tasks = dict(experiments[1].inputs.of_tasks)
    continual._check_truth(of_tasks)
    sciq, boolq = (of_tasks[task].by_seed for task in TASKS)
    told = {seed: dataclasses.replace(data, p_ik=boolq[seed].student_half) for seed, data in sciq.items()}
    of_tasks["sciq"] = dataclasses.replace(of_tasks["sciq"], by_seed=told)
    with pytest.raises(
        UserError, match=r"32 of the questions that P\(IK\) learns beside sciq are .* of boolq"
    ):
        continual._check_truth(of_tasks)
    continual._check_truth({task: of_tasks[task] for task in TASKS[::-1]})


def test_students_do_not_depend_on_the_truth_of_any_half(experiments):
    _, second, _ = experiments
    config, of_tasks = second.config, {}
    for task, inputs in second.inputs.of_tasks.items():
        by_seed = {seed: _with_flipped_half(data) for seed, data in inputs.by_seed.items()}
        of_tasks[task] = dataclasses.replace(inputs, by_seed=by_seed)
    flipped = continual.Experiment(config, continual._of(of_tasks, config.task))
    keys = {
        name: [one.trained(0, name).key for one in (second, flipped)] for name in ("ceiling", *config.methods)
    }
    assert [name for name, (ours, theirs) in keys.items() if ours != theirs] == ["ceiling"]


def _with_flipped_half(data):
    half = data.student_half
    examples = [dataclasses.replace(one, label=1 - one.label) for one in half.examples]
    return dataclasses.replace(data, student_half=dataclasses.replace(half, examples=examples))


def test_each_model_is_tested_on_all_tasks_after_each(experiments):
    first, second, _ = experiments
    for experiment, own, other in ((first, *TASKS), (second, *TASKS[::-1])):
        tests = {stage.label: stage for stage in experiment.tests(0, "selective")}
        assert list(tests) == [
            "evaluation of selective, seed 0",
            f"evaluation of selective on {other} after {own}, seed 0",
        ]
        assert {stage.trained.key for stage in tests.values()} == {experiment.trained(0, "selective").key}
    elsewhere = first.evaluation_on(0, "selective", "boolq").split
    assert elsewhere.texts_hash == second.evaluation(0, "selective").split.texts_hash
    assert [stage.label for stage in first.tests(0, "weak")] == ["evaluation of weak, seed 0"]


def test_a_plan_lists_the_stages_of_a_task_and_not_those_before_it(experiments, tmp_path):
    labels = [stage.label for stage in workload._list_stages(experiments[1], tmp_path)]
    assert len({*labels}) == len(labels)
    assert {"weak, seed 0", "ceiling, seed 0", "evaluation of selective on sciq after boolq, seed 0"} <= {
        *labels
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"continual__tasks": ("sciq",)}, "continual.tasks=sciq is no sequence"),
        ({"continual__tasks": ("sciq", "boolq", "sciq")}, "two tasks or more, each once"),
        ({"continual__tasks": ("cosmosqa", "cosmos_qa")}, "two tasks or more, each once"),
        ({"continual__tasks": TASKS, "sweep__tasks": TASKS}, "give one of the two"),
        ({"continual__tasks": TASKS, "methods": ("p_ik_only",)}, "config.methods=.*gives others"),
        (
            {"continual__tasks": TASKS, "data__train_file": "own.jsonl"},
            "config.data.train_file=own.jsonl gives",
        ),
        (
            {"continual__tasks": TASKS, "supervision": "completion"},
            "config.supervision=completion gives others",
        ),
    ],
)
def test_what_is_no_sequence_is_refused(changes, message):
    config = config_lib.normalize(tiny_config.make_config(**changes))
    with pytest.raises(UserError, match=message):
        for cell in sweep.expand(config):
            checks._check_continual(cell.config)
