"""Whole runs of tasks that are learnt one after the other."""

import pytest
from support import item_runs, tiny_config

from selw2s_jax.run import pipeline


@pytest.mark.slow
def test_right_answers_to_the_tests_of_all_tasks_are_those_of_the_predictions(tmp_path):
    config = tiny_config.make_config(
        methods=("finetune",), continual__tasks=("sciq", "boolq"), strong__model="random-tiny-gpt2"
    )
    pipeline.run(config, tmp_path)
    for task, other in (("sciq", "boolq"), ("boolq", "sciq")):
        found = item_runs.assert_results_are_theirs(tmp_path / "runs" / f"task={task}")
        own = [(task, method, 0) for method in ("weak", "ceiling", "finetune")]
        assert list(found) == own + [(other, method, 0) for method in ("ceiling", "finetune")]
