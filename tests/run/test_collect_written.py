"""What results say of variations that a model was to write."""

import json
import types

import pytest

from selw2s_jax.data import paraphrasing, variations
from selw2s_jax.run import collect_written
from selw2s_jax.runtime import artifacts


@pytest.mark.parametrize(
    ("outcomes", "left_out", "texts", "said", "is_doubted"),
    [
        # Of three questions the third left no room for its rewordings.
        (
            {"kept": 3, "numbers": 1},
            1,
            ["ab", "a-", "--"],
            "3 of 6 variations are in the words of the strong model; others are the original prompt (1 have other "
            "numbers, 2 leave no room in the context)",
            False,
        ),
        # Of two the first is asked in its original prompt, as its rewordings leave no room for answers.
        (
            {"kept": 3, "same": 1},
            0,
            ["--", "a-"],
            "1 of 4 variations are in the words of the strong model; others are the original prompt (1 are the "
            "original words, 2 leave no room in the context)",
            True,
        ),
        ({"kept": 4}, 0, ["ab", "cd"], "4 of 4 variations are in the words of the strong model", False),
    ],
)
def test_what_became_of_rewordings(tmp_path, outcomes, left_out, texts, said, is_doubted):
    store, inputs = artifacts.Store(tmp_path), {"made": "up"}
    with store.filling("reworded", inputs) as folder:
        counts = paraphrasing.count(name for name, n in outcomes.items() for _ in range(n))
        artifacts.write_text(folder / "summary.json", json.dumps(counts))
    stage = types.SimpleNamespace(
        name="reworded",
        inputs=inputs,
        label="rewordings, seed 0",
        model=types.SimpleNamespace(role="strong"),
        left_out=left_out,
        count=2,
    )
    plan = [[variations.Variation(text=None if one == "-" else one) for one in own] for own in texts]
    asked = types.SimpleNamespace(plan=plan)
    experiment = types.SimpleNamespace(
        inputs=None,
        has_rewording=True,
        rewording=lambda seed: stage,
        weak_answers=lambda seed: types.SimpleNamespace(read_asked=lambda store: asked),
        classifiers=tuple,
    )
    collector = collect_written.Collector(types.SimpleNamespace(seeds=(0,)), experiment, store)
    assert collector._notes() == [f"rewordings, seed 0: {said}"]
    assert [one.observation for one in collector._doubts()] == [f"rewordings, seed 0: {said}"] * is_doubted
