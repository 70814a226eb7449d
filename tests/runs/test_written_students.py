"""Models of a finished run that write, asked the run's own questions: its answers and their reliability again."""

import json

import pytest
from support import asking

from selw2s_jax import config as config_lib
from selw2s_jax.experiments import written, written_inputs
from selw2s_jax.inference import writing
from selw2s_jax.method import reliability
from selw2s_jax.run import pipeline, students
from selw2s_jax.runtime import artifacts

pytestmark = [pytest.mark.slow, pytest.mark.ci]


def make_config(by: str):
    config = config_lib.default_config()
    config.weak.model = config.strong.model = "random-tiny-gpt2"
    config.data.source, config.seeds = "generated", (0,)
    config.supervision, config.task, config.methods = "completion", "mmlu", ("finetune",)
    config.data.num_train, config.data.num_test = 32, 9
    config.training.batch_size, config.training.epochs = 8, 1.0
    config.answers.by, config.answers.max_new_tokens = by, 6
    config.answers.unparsed = "trained"  # what random models write says nothing
    config.variations.count = 3
    config.precision.compute_dtype = "float32"
    return config


def write_questions(path, split):
    lines = [
        {"example_id": q.question_id, "question": q.text, "choices": q.choices, "context": q.context}
        for q in split.questions
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("by", ["score", "generate"])
def test_the_runs_own_questions(tmp_path, by):
    config = config_lib.normalize(make_config(by))
    pipeline.run(make_config(by), tmp_path / "run")
    experiment = written.Experiment(config, written_inputs.prepare(config, tmp_path / "run"))
    store, test = artifacts.Store(tmp_path / "run"), experiment.inputs.test

    def ask(method, split, **options):
        student = students.find(tmp_path / "run", task="mmlu", method=method, seed=0)
        assert student.facts.written.task.name == "mmlu" and student.facts.supervision == "completion"
        path = write_questions(tmp_path / "in.jsonl", split)
        return asking.write(student, path, tmp_path / "out.jsonl", **options)

    def shown(question, answer):
        return None if answer is None else question.choices[answer]

    for method in ("finetune", "ceiling"):
        given = writing.read_answers(store, experiment.evaluation(0, method), test)
        expected = [shown(question, own[0]) for question, own in zip(test.questions, given, strict=True)]
        assert [record["answer"] for record in ask(method, test, variations=0)] == expected

    split, stage = experiment.inputs.by_seed[0].student, experiment.weak_answers(0)
    given, kept = writing.read_answers(store, stage, split), writing.read(store, stage, split)
    assessed = reliability.assess([own[1:] for own in given], unparsed=config.answers.unparsed)
    for row, record in enumerate(ask("weak", split)):
        answer, *others = given[row]
        assert record["text"] == kept["text"][row][0] and record["entropy"] == assessed.entropies[row]
        assert record["answer"] == shown(split.questions[row], answer)
        assert record["variations"] == len(others) == 3
        if answer is not None:
            assert record["agreeing"] == others.count(answer)
    assert len({*assessed.entropies}) > 1 or by == "generate"
