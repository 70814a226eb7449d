"""The plan as it is printed: counted by kind, or with every stage."""

import types

from selw2s_jax.run import plan_text


def stage(name: str, key: str, label: str):
    return types.SimpleNamespace(name=name, key=key, label=label, detail="3 examples")


STAGES = [
    stage("train", "a", "weak, seed 0"),
    stage("predictions", "b", "weak labels, seed 0"),
    stage("train", "c", "ceiling, seed 0"),
    stage("own_kind", "d", "something else"),
]
STATE = plan_text.states(STAGES, missing={"a", "b", "d"}, ours={"a", "d"})


def test_stages_are_counted_by_kind_and_state():
    assert plan_text.folded(STAGES, STATE) == [
        "  training     1 to run, 1 done",
        "  predictions  1 others",
        "  own_kind     1 to run",
    ]


def test_every_stage_has_a_line_below_its_run():
    lines = plan_text.whole(STAGES, STATE, {"a": "one", "b": "one", "c": "two", "d": "two"})
    assert lines == [
        "  one",
        "  to run  weak, seed 0         a  3 examples",
        "  others  weak labels, seed 0  b  3 examples",
        "  two",
        "  done    ceiling, seed 0      c  3 examples",
        "  to run  something else       d  3 examples",
    ]
